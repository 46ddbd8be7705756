"""The Kubeflow pipelines: the loop and those beside it (annotate, continue, predict), what each step asks of a cluster,
and their compilation to YAML. Importing `compile` or `cluster` imports no kfp."""
