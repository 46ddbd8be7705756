"""Following a run: what it does now, how it ended, and the exit code for that."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from attrloop.components.errors import AttrloopError
from attrloop.pipelines.submit.client import Kubeflow

SUCCEEDED, FAILED, STOPPED, WAITING, LOST = 0, 1, 3, 4, 5
"""Exit codes: it succeeded; it failed; it was cancelled or skipped; it still runs when the time is up; it was lost sight of while it ran."""

ENDS = {"SUCCEEDED": SUCCEEDED, "FAILED": FAILED, "CANCELED": STOPPED, "SKIPPED": STOPPED}


_BOOKKEEPING = ("should-run", "keep", "latest-adapter", "share-out")  # takes no time, and tells people nothing


def steps_of(pipeline: Path) -> frozenset[str]:
    """The names of a compiled pipeline's steps, without those that only keep the loop's books."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    spec = next(yaml.load_all(pipeline.read_text(encoding="utf-8"), Loader=loader))
    graphs = [spec["root"]["dag"], *(found["dag"] for found in spec["components"].values() if "dag" in found)]
    return frozenset(
        name
        for graph in graphs
        for name, task in graph["tasks"].items()
        if "dag" not in spec["components"][task["componentRef"]["name"]] and not name.startswith(_BOOKKEEPING)
    )


def follow(
    kubeflow: Kubeflow,
    run_id: str,
    current: Callable[[], Any | None],
    steps: frozenset[str],
    every: float = 10,
    timeout: float | None = None,
    tell: Callable[[str], None] = print,
) -> int:
    """Waits for a run's end and tells every change of its state and of its steps'.

    Args:
        kubeflow: where it runs.
        run_id: the run.
        current: finds the run of the same submission that counts, if one is alive: where two submitters started one each, it can be the other's.
        steps: names of the steps worth telling.
        every: seconds between looks.
        timeout: seconds to wait at most; None for no limit.
        tell: is told, a line at a time.

    Returns:
        the exit code.
    """
    begun, seen = time.monotonic(), dict[str, str]()
    while True:
        try:
            if (other := current()) is not None and other.run_id != run_id:
                tell(f"another run of the same submission counts: following {other.run_id}")
                run_id = other.run_id
            run = kubeflow.call("show the run", partial(_get_run, run_id=run_id))
        except AttrloopError as error:
            tell(f"{error}\nThe run {run_id} goes on; the same command again joins it.")
            return LOST
        _tell_changes(run, seen, steps, tell)
        if run.state in ENDS:
            return _ended(run, tell)
        if timeout is not None and time.monotonic() - begun + every > timeout:
            tell(
                f"Still {run.state.lower()} after {timeout:.0f} s. The run {run_id} goes on; the same command again joins it."
            )
            return WAITING
        time.sleep(every)


def _get_run(client: Any, run_id: str) -> Any:
    return client.get_run(run_id)


def _tell_changes(run: Any, seen: dict[str, str], steps: frozenset[str], tell: Callable[[str], None]) -> None:
    tasks = (run.run_details.task_details or []) if run.run_details else []
    for task in tasks:
        if task.display_name in steps and task.state and seen.get(task.task_id) != task.state:
            seen[task.task_id] = task.state
            took = (
                f" after {task.end_time - task.start_time}"
                if task.end_time and task.start_time and task.state in ENDS
                else ""
            )
            tell(f"{_clock()}   {task.display_name} {task.state.lower()}{took}")
    if run.state and seen.get("") != run.state:
        seen[""] = run.state
        tell(f"{_clock()} run {run.state.lower()}")


def _ended(run: Any, tell: Callable[[str], None]) -> int:
    tasks = (run.run_details.task_details or []) if run.run_details else []
    failed = [f"{task.display_name}: {task.error.message}" for task in tasks if task.state == "FAILED" and task.error]
    for message in ([run.error.message] if run.error and run.error.message else []) + failed:
        tell(message)
    return ENDS[run.state]


def _clock() -> str:
    return time.strftime("%H:%M:%S")
