"""A run: its config, its workspace, and how its steps report.

`config` is the record of every setting, and `overrides` replaces single ones. `layout` spells every path in a
workspace, `workspace` opens one, and an `artifact` is a folder in it that one step fills once (`adapter_files`: the
files of an adapter). `shards` divides a step's work between workers, and `state` travels from iteration to iteration.
`events` records what a step does; `reporting` and `progress` write it while the step runs.
"""
