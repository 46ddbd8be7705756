"""The Kubeflow pipelines: the loop and those beside it (annotate, continue, predict).

Also what each step asks of a cluster, and the compilation to YAML. Importing `compile` or `cluster` imports no kfp.
"""
