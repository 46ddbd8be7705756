"""Tracks a run in MLflow and registers its best adapter.

`register` is the step. `logged` says what MLflow shows and under which names, `runs` finds or makes the runs, and
`versions` the logged model and its versions. `model` is the pyfunc that MLflow loads to predict with an adapter.
"""
