"""What combines the components: `definitions` describes the pipelines and compiles them, `local` runs them on this
machine, `submit` on a cluster; `cli` is the command line in front of both, and `demo` the embedded world."""
