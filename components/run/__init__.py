"""A run: its config, its workspace, and how its steps tell what they have done.

`config` is the record of every setting and `overrides` changes single ones of them; `layout` spells every path in a
workspace and `workspace` opens one; an `artifact` is a folder that a step fills once; `shards` divides the work of a
step between workers; `state` is what travels from iteration to iteration; `events` and `progress` say how far a step is.
"""
