"""The pipelines by name: the loop, and those beside it that are made of the same components."""

from pathlib import Path
from typing import Any, Literal, get_args

from attrloop.pipelines.cluster import LOCAL, Cluster

Name = Literal["loop", "annotate", "continue", "predict"]
NAMES: tuple[Name, ...] = get_args(Name)
MAX_ITERATIONS = 3


def compile_to(name: Name, path: Path, max_iterations: int = MAX_ITERATIONS, cluster: Cluster = LOCAL) -> None:
    """Writes a pipeline as the YAML that Kubeflow and the local runner take.

    Args:
        name: which.
        path: the file.
        max_iterations: how many iterations it has room for, 0 to 5, where it has any.
        cluster: where it will run.
    """
    if name == "loop":
        from attrloop.pipelines import attribute_loop

        attribute_loop.compile_to(path, max_iterations=max_iterations, cluster=cluster)
        return
    from kfp import compiler

    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(_build(name, max_iterations, cluster), str(path))


def _build(name: Name, max_iterations: int, cluster: Cluster) -> Any:
    if name == "annotate":
        from attrloop.pipelines import annotate_only

        return annotate_only.build(cluster)
    if name == "predict":
        from attrloop.pipelines import predict_catalogue

        return predict_catalogue.build(cluster)
    from attrloop.pipelines import continue_loop

    return continue_loop.build(max_iterations, cluster)
