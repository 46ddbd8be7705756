"""Runs the compiled pipeline on this machine through kfp.local: the very YAML that a cluster gets."""

import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from attrloop.components.engines.registry import require
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.run.config import RunConfig
from attrloop.components.storage.files import write_atomic
from attrloop.pipelines.definitions.compile import MAX_ITERATIONS, Name, compile_to
from attrloop.pipelines.local.live import Progress, Stream
from attrloop.pipelines.local.locks import exclusive

QUIET = ("should-run", "keep", "latest-adapter", "share-out")  # bookkeeping that takes no time


def run_local(
    config: RunConfig, workspace: Path, console: Console, fresh: bool = False, name: Name = "loop", **arguments: Any
) -> str:
    """Runs the loop, or a pipeline beside it; what an earlier run in the same workspace finished is reused.

    Args:
        config: the run's config.
        workspace: the folder that holds everything the run makes.
        console: where progress is shown; what the steps print goes to `<workspace>/logs/`.
        fresh: sets an earlier run's folder aside and begins again.
        name: which pipeline.
        arguments: further parameters of it.

    Returns:
        the pipeline's output: the loop's final state (JSON), or see the pipeline.

    Raises:
        InputError: another run is at work in the workspace, the config's sampling engine is not installed.
        AttrloopError: a step failed; says which, why, and where its log is.
    """
    require(config.sample.engine)
    with exclusive(workspace, console.print):
        if fresh and workspace.exists():
            aside = workspace.with_name(f"{workspace.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
            workspace.rename(aside)
            console.print(f"The earlier run was set aside as {aside}", soft_wrap=True)
        write_atomic(workspace / "config.json", config.model_dump_json(indent=1).encode())
        pipeline = workspace / "kfp" / f"{name}.yaml"
        compile_to(pipeline, name, max(MAX_ITERATIONS, config.loop.iterations))
        return run_pipeline(
            pipeline,
            {"config": str(workspace / "config.json"), "workspace": str(workspace), **arguments},
            workspace,
            console,
        )


def run_pipeline(
    pipeline: Path, arguments: dict[str, Any], workspace: Path, console: Console, runner: Any = None
) -> Any:
    """Runs a compiled pipeline with one output.

    Args:
        pipeline: the YAML.
        arguments: the pipeline's parameters.
        workspace: gets `kfp/` (artifacts) and `logs/`.
        console: where progress is shown.
        runner: kfp.local's; None for processes of this Python.

    Returns:
        the pipeline's output.

    Raises:
        AttrloopError: a step failed.
    """
    from kfp import components, local

    local.init(runner or local.SubprocessRunner(use_venv=False), pipeline_root=str(workspace / "kfp"))
    loaded = components.load_component_from_file(str(pipeline))
    log = workspace / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        _environment(),
        log.open("w", encoding="utf-8") as file,
        Progress(labels_of(pipeline), workspace, console) as shown,
    ):
        try:
            with contextlib.redirect_stdout(Stream(file, shown.on_line)):
                return loaded(**arguments).output
        except RuntimeError as error:
            if not (step := shown.failed):
                raise
            where = step.label or "a step between two stages"
            raise AttrloopError(
                f"{where} failed: {step.explanation}\n\nThe whole log: {log}\nThe same command again goes on from here."
            ) from error


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What the steps' processes need: prompt output, and a temporary folder that goes when the run ends (the runner leaves one behind for every step)."""
    if " " in sys.executable:
        raise fail(
            sys.executable,
            "the local runner cannot start a Python whose path holds a space",
            "Put the virtual environment elsewhere",
        )
    with (
        tempfile.TemporaryDirectory(prefix="attrloop-", ignore_cleanup_errors=True) as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # that accelerator settings have no effect here
        before = {name: os.environ.get(name) for name in ("PYTHONUNBUFFERED", "TMPDIR", "GOMP_SPINCOUNT")}
        os.environ.update(PYTHONUNBUFFERED="1", TMPDIR=folder)
        os.environ.setdefault(
            "GOMP_SPINCOUNT", "10000"
        )  # threads that wait spin briefly, then sleep: on shared cores spinning stalls the others
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def labels_of(pipeline: Path) -> dict[str, str]:
    """What to call the tasks of a compiled pipeline, e.g. `dpo-2` is `iteration-2 dpo`; bookkeeping is left out."""
    spec = next(
        yaml.load_all(pipeline.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    )
    labels: dict[str, str] = {}

    def walk(dag: dict[str, Any], stage: str) -> None:
        for name, task in dag["tasks"].items():
            component = task["componentRef"]["name"]
            given = (
                task.get("inputs", {})
                .get("parameters", {})
                .get("stage", {})
                .get("runtimeValue", {})
                .get("constant", "")
            )
            within = stage or given
            if "dag" in spec["components"][component]:
                walk(spec["components"][component]["dag"], within)
            elif not name.startswith(QUIET):
                labels[component.removeprefix("comp-")] = f"{within} {name}".strip()

    walk(spec["root"]["dag"], "")
    return labels
