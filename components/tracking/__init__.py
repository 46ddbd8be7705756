"""MLflow as every step sees it.

`server` says where the tracking store is and reaches it, `names` makes names that it accepts, `code` says which code
made a run, and `requirements` notes the library versions that an adapter was trained with.

MLflow is imported inside functions, so that a command which tracks nothing does not wait for it.
"""
