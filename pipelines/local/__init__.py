"""Runs a pipeline on this machine, through kfp.local: the same compiled YAML that a cluster gets.

`runner` compiles and runs it, `live` shows its steps, `locks` prevents two runs at once in one workspace. The output of
the steps goes to `<workspace>/logs/`; the view comes from the events that they write into the workspace.
"""
