"""What a run came to.

`evaluation` is the record of an evaluation and the table of metrics, `metrics` the functions behind it. `comparison`
says how two stages differ, with intervals from `bootstrap`. `reader` reads all there is of a run, finished or not;
`kubeflow` is what Kubeflow's pages show.
"""
