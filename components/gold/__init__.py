"""Keeps gold apart from what is learnt: the split of every listing, the same in every run.

`split.py` draws a split, and `stated.py` reads those that a labels file states. `fingerprint.py` tells copies of a
photograph, `photographs.py` looks at those of a catalogue, and `groups.py` finds the listings that share them.
`register.py` remembers, `decide.py` decides, and `survey.py` does both for a catalogue. `splits.py` keeps the splits of
a run for all its steps, `presumed.py` decides those of a part of a catalogue. `sampled.py` says which listings an
iteration samples, `learnt.py` records what an adapter and its ancestors have learnt from, and `left_out.py` finds the
gold that comparisons leave out for it.
"""
