"""Follows a run on a cluster: reports what it does and how it ends, and returns the exit code."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from attrloop.components.errors import AttrloopError
from attrloop.pipelines.submit.client import Kubeflow
from attrloop.pipelines.submit.step_lines import Steps

SUCCEEDED, FAILED, STOPPED, WAITING, LOST = 0, 1, 3, 4, 5
"""Exit codes: the run succeeded, failed, was cancelled or skipped, still runs at the timeout, can no longer be seen."""

ENDS = {"SUCCEEDED": SUCCEEDED, "FAILED": FAILED, "CANCELED": STOPPED, "SKIPPED": STOPPED}


def follow(
    kubeflow: Kubeflow,
    run_id: str,
    current: Callable[[], Any | None],
    steps: frozenset[str],
    *,
    workspace: str = "",
    every: float = 10,
    timeout: float | None = None,
    tell: Callable[[str], None] = print,
) -> int:
    """Waits for the end of a run, and reports every change of its state and of its steps.

    Args:
        kubeflow: the server on which it runs.
        run_id: the run.
        current: finds the run of the same submission that counts, if one is alive. If two submitters each started a
            run, it may be the other one.
        steps: names of the steps to report.
        workspace: URI of the run's workspace, whose events show what steps do; "" to report only what Kubeflow knows.
        every: seconds between looks.
        timeout: the longest wait in seconds; None for no limit.
        tell: gets each line.

    Returns:
        The exit code.
    """
    begun, state = time.monotonic(), ""
    shown = Steps(steps, workspace, lambda line: tell(f"{_clock()}   {line}"))
    while True:
        try:
            if (other := current()) is not None and other.run_id != run_id:
                tell(f"another run of the same submission counts: following {other.run_id}")
                run_id = other.run_id
            run = kubeflow.call("show the run", partial(_get_run, run_id=run_id))
        except AttrloopError as error:
            tell(f"{error}\nThe run {run_id} goes on; the same command again joins it.")
            return LOST
        shown.look(run)
        if run.state and run.state != state:
            state = run.state
            tell(f"{_clock()} run {state.lower()}")
        if state in ENDS:
            return _ended(run, tell)
        if timeout is not None and time.monotonic() - begun + every > timeout:
            left = f"The run {run_id} goes on; the same command again joins it."
            tell(f"Still {state.lower()} after {timeout:.0f} s. {left}")
            return WAITING
        time.sleep(every)


def _get_run(client: Any, run_id: str) -> Any:
    return client.get_run(run_id)


def _ended(run: Any, tell: Callable[[str], None]) -> int:
    tasks = (run.run_details.task_details or []) if run.run_details else []
    failed = [f"{task.display_name}: {task.error.message}" for task in tasks if task.state == "FAILED" and task.error]
    for message in ([run.error.message] if run.error and run.error.message else []) + failed:
        tell(message)
    return ENDS[run.state]


def _clock() -> str:
    return time.strftime("%H:%M:%S")
