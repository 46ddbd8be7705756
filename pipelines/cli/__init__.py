"""The command line.

`main` declares the commands, with those for a cluster from `cluster` and those on answers to review from `reviews`;
`options` holds what they have in common. `launch` and `doctor` do the work, and `reference` documents commands and
config. Modules that compute are imported only when a command runs.
"""
