"""Runs a pipeline on this machine, through kfp.local: the same compiled YAML that a cluster gets.

`runner` compiles and runs it, `live` shows what its steps do, `locks` keeps two runs out of one workspace. What the
steps print goes to `<workspace>/logs/`; what a person sees comes from the events that they leave in the workspace.
"""
