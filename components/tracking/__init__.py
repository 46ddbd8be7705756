"""MLflow as every step sees it: where the tracking store is, the names it accepts, and which code made a run.

MLflow is imported inside functions, so that a command which tracks nothing does not wait for it.
"""
