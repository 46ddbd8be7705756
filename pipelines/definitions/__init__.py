"""The Kubeflow pipelines: the loop and those beside it (annotate, continue, predict).

`iteration` is what the loops share, `resources` gives each step its cores, memory, accelerators, nodes and secrets, and
`compile` writes the YAML for a `cluster`. Importing `compile` or `cluster` imports no kfp.
"""
