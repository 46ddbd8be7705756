"""Keeps gold apart from what is learnt: the split of every listing, which never changes.

`split.py` draws a split from a group of listings that share photographs. `splits.py` decides the split of every listing
of a catalogue, and which gold listings must not be judged by. `stated.py` reads the splits
that a labels file states. `sampled.py` says which listings an iteration samples. `learnt.py` records what an adapter
and its ancestors have learnt from, and `left_out.py` the gold that is therefore left out of comparisons.
"""
