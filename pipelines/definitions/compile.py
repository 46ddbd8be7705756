"""Writes pipelines as YAML. Imports kfp only when it compiles."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from attrloop.components.errors import fail
from attrloop.components.storage.files import check_output, explained_output, replacing
from attrloop.pipelines.definitions.cluster import LOCAL, Cluster

Name = Literal["loop", "annotate", "continue", "predict"]
NAMES: tuple[Name, ...] = get_args(Name)
MAX_ITERATIONS = 3


def compile_to(path: Path, name: Name = "loop", max_iterations: int = MAX_ITERATIONS, cluster: Cluster = LOCAL) -> None:
    """Writes a pipeline as YAML, for Kubeflow and for the local runner.

    Args:
        path: the file.
        name: which pipeline.
        max_iterations: how many iterations it has room for, 0 to 5 (etcd limits the size of what a cluster accepts);
            a run may ask for fewer.
        cluster: where it will run.

    Raises:
        InputError: the file cannot be written, or its name does not end in `.yaml`.
    """
    from kfp.compiler import Compiler

    from attrloop.pipelines.definitions import annotate_only, attribute_loop, continue_loop, predict_catalogue

    builders: dict[Name, Callable[[Cluster], Any]] = {
        "loop": partial(attribute_loop.build, max_iterations=max_iterations),
        "annotate": annotate_only.build,
        "continue": partial(continue_loop.build, max_iterations=max_iterations),
        "predict": predict_catalogue.build,
    }
    if path.suffix not in (".yaml", ".yml"):
        raise fail(str(path), "a pipeline is written as YAML", "Give a name that ends in .yaml")
    check_output(path)
    pipeline = builders[name](cluster)
    with explained_output(path), replacing(path) as temporary:
        Compiler().compile(pipeline, str(temporary))
