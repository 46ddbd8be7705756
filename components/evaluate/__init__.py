"""Greedy decoding on gold labels: predictions of each stage, their metrics, and whether the loop goes on."""
