"""Everything that can be known before a run is paid for, checked with all problems at once, and a forecast of its cost.

`prepare` writes the config into the workspace and starts `check`, which runs the checks of `data`, `model`, `services`
and `forecast`; each gives a `Finding`. Nothing here imports torch: `probe` looks at the base model in another process.
"""
