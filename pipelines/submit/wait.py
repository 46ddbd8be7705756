"""Follows a run on a cluster: what it does, how it ends, and the exit code for that."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from attrloop.components.errors import AttrloopError
from attrloop.pipelines.submit.client import Kubeflow

SUCCEEDED, FAILED, STOPPED, WAITING, LOST = 0, 1, 3, 4, 5
"""Exit codes: the run succeeded, failed, was cancelled or skipped, still runs when the time is up, is lost sight of."""

ENDS = {"SUCCEEDED": SUCCEEDED, "FAILED": FAILED, "CANCELED": STOPPED, "SKIPPED": STOPPED}

_BOOKKEEPING = ("should-run", "keep", "latest-adapter", "share-out")  # steps that take no time and tell people nothing


def steps_of(pipeline: Path) -> frozenset[str]:
    """The names of a compiled pipeline's steps, without bookkeeping."""
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
    *,
    every: float = 10,
    timeout: float | None = None,
    tell: Callable[[str], None] = print,
) -> int:
    """Waits for the end of a run, and tells every change of its state and of the states of its steps.

    Args:
        kubeflow: where it runs.
        run_id: the run.
        current: finds the run of the same submission that counts, if one is alive. If two submitters started one run
            each, it may be the other one.
        steps: names of the steps to tell about.
        every: seconds between looks.
        timeout: seconds to wait at most; None for no limit.
        tell: gets each line.

    Returns:
        The exit code.
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
                f"Still {run.state.lower()} after {timeout:.0f} s. The run {run_id} goes on; the same command again "
                "joins it."
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
