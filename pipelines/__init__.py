"""What combines the components into pipelines, and runs them.

`definitions` describes the pipelines and compiles them; `local` runs them on this machine, `submit` on a cluster; `cli`
is the command line in front of both, and `demo` the embedded world.
"""
