"""The small steps between two iterations, which carry the loop's state and decide whether the next iteration runs."""
