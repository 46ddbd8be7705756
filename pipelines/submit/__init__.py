"""Runs a pipeline on a cluster, once however often it is asked to, from the command line or from CI.

`submission` checks what is wanted against the compiled pipeline (`parameters`), `client` reaches the server (`auth`),
`deliver` makes sure that each thing exists there once, and `wait` follows a run to its end
(`step_lines`: what it says about the run's steps).
"""
