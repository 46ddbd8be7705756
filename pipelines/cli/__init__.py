"""The command line.

`main` declares the commands and `options` what they have in common; `launch` and `doctor` do the work, and `reference`
documents commands and config. Modules that compute are imported only when a command runs.
"""
