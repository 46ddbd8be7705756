"""Runs a pipeline on a cluster, from the command line or CI; a submission that is sent again does not run twice.

`submission` checks what is wanted against the compiled pipeline (`parameters`), `client` reaches the server (`auth`),
`deliver` makes sure that each thing exists there once, and `wait` follows a run to its end
(`step_lines`: the lines about the run's steps).
"""
