"""Greedy decoding on gold labels: predictions of each stage, their metrics, and whether the loop goes on.

`stage` is the step, `evaluate` decodes, and `score` turns predictions into a `results.Evaluation`.
"""
