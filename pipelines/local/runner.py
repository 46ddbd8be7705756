"""Runs a compiled pipeline on this machine through kfp.local."""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from attrloop.components.console import PlainConsole
from attrloop.components.engines.registry import require
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.run import layout
from attrloop.components.run.config import RunConfig
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.local import LocalStore
from attrloop.pipelines.definitions.compile import MAX_ITERATIONS, Name, compile_to
from attrloop.pipelines.local.live import LiveView, last_words
from attrloop.pipelines.local.locks import exclusive

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FAILED_TASK = re.compile(r"Inner task failed: [^']*'([\w-]+)'")


def run_local(
    config: RunConfig,
    workspace: Path,
    console: PlainConsole,
    fresh: bool = False,
    name: Name = "loop",
    **arguments: Any,
) -> str:
    """Runs the loop, or another pipeline; reuses what an earlier run in the same workspace finished.

    Args:
        config: the run's config.
        workspace: the folder for everything that the run makes.
        console: where progress is shown; the output of the steps goes to `<workspace>/logs/`.
        fresh: renames an earlier run's folder and begins again.
        name: which pipeline.
        arguments: further parameters of the pipeline.

    Returns:
        The pipeline's output. The loop's is its final state (JSON).

    Raises:
        InputError: another run uses the workspace, or the sampling engine is not installed.
        AttrloopError: a step failed; says which, why, and where its log is.
    """
    if name != "annotate":
        require(config.sample.engine)
    with exclusive(workspace, console.print):
        if fresh and workspace.exists():
            aside = workspace.with_name(f"{workspace.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
            workspace.rename(aside)
            console.print(f"The earlier run was set aside as {aside}", soft_wrap=True)
        write_atomic(workspace / layout.CONFIG, config.model_dump_json(indent=1).encode())
        pipeline = workspace / layout.KFP / f"{name}.yaml"
        compile_to(pipeline, name, max(MAX_ITERATIONS, config.loop.iterations))
        return run_pipeline(
            pipeline,
            {"config": str(workspace / layout.CONFIG), "workspace": str(workspace), **arguments},
            workspace,
            console,
        )


def run_pipeline(
    pipeline: Path, arguments: dict[str, Any], workspace: Path, console: PlainConsole, runner: Any = None
) -> Any:
    """Runs a compiled pipeline with one output.

    Args:
        pipeline: the YAML.
        arguments: the pipeline's parameters.
        workspace: gets `kfp/` (artifacts) and `logs/`.
        console: where progress is shown.
        runner: kfp.local's; None for processes of this Python.

    Returns:
        The pipeline's output.

    Raises:
        AttrloopError: a step failed.
    """
    from kfp import components, local

    local.init(runner or local.SubprocessRunner(use_venv=False), pipeline_root=str(workspace / layout.KFP))
    loaded = components.load_component_from_file(str(pipeline))
    log = workspace / layout.LOGS / f"{time.strftime('%Y%m%d-%H%M%S')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with _environment(), log.open("w", encoding="utf-8") as file, LiveView(LocalStore(workspace), console) as shown:
        try:
            with contextlib.redirect_stdout(_Log(file)):
                return loaded(**arguments).output
        except RuntimeError as error:
            if not (task := _FAILED_TASK.search(str(error))):
                raise
            event = shown.failed()
            why = event.failure.message if event and event.failure else last_words(log)
            raise AttrloopError(
                f"{event.label if event else task[1]} failed: {why}\n\n"
                f"The whole log: {log}\nThe same command again goes on from here."
            ) from error


class _Log(io.TextIOBase):
    """Writes what kfp.local and the steps print to a file, without colours."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._file.write(_COLOUR.sub("", text))
        self._file.flush()
        return len(text)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Sets the environment of the steps' processes while the run lasts.

    They print without delay, and have their own temporary folder, because kfp.local leaves one behind for every step.
    """
    if shlex.quote(sys.executable) != sys.executable:  # kfp.local puts it into a line of shell as it is
        raise fail(
            sys.executable,
            "the local runner cannot start a Python whose path contains a space or a sign that a shell reads",
            "Move the virtual environment",
        )
    with (
        tempfile.TemporaryDirectory(prefix="attrloop-", ignore_cleanup_errors=True) as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # accelerator settings have no effect here
        before = {name: os.environ.get(name) for name in ("PYTHONUNBUFFERED", "TMPDIR", "GOMP_SPINCOUNT")}
        os.environ.update(PYTHONUNBUFFERED="1", TMPDIR=folder)
        # Waiting threads spin only briefly, then sleep: on shared cores, spinning slows down other processes.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
