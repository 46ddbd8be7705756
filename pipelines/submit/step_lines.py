"""The lines that `attrloop submit --wait` prints about the steps of a run on a cluster.

Kubeflow knows when a step starts and ends. Its progress, its figure and why it failed are in the events that
steps write into the run's workspace.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from attrloop.components.errors import AttrloopError
from attrloop.components.run.events import Event, EventReader
from attrloop.components.storage.opening import open_store

_BOOKKEEPING = (
    "should-run",
    "keep",
    "latest-adapter",
    "share-out",
)  # steps that take no time and mean nothing to people
_OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


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


class Steps:
    """Prints each change of a run's steps once.

    Args:
        names: the steps to report, by Kubeflow's names.
        workspace: URI of the run's workspace; "" to report only what Kubeflow knows.
        tell: gets each line.
    """

    def __init__(self, names: frozenset[str], workspace: str, tell: Callable[[str], None]) -> None:
        self._names, self._workspace, self._tell = names, workspace, tell
        self._reader: EventReader | None = None
        self._states: dict[str, str] = {}
        self._told: dict[tuple[str, int], tuple[str, int]] = {}

    def look(self, run: Any) -> None:
        """Prints what is new.

        Args:
            run: Kubeflow's record of the run.
        """
        tasks = (run.run_details.task_details or []) if run.run_details else []
        for task in tasks:
            if task.display_name in self._names and task.state and self._states.get(task.task_id) != task.state:
                self._states[task.task_id] = task.state
                timed = task.end_time and task.start_time and task.state in _OVER
                took = f" after {task.end_time - task.start_time}" if timed else ""
                self._tell(f"{task.display_name} {task.state.lower()}{took}")
        events = self._events()
        latest = {event.label: event.attempt for event in events}
        for event in events:
            # An event from before the run belongs to an earlier run in the same workspace.
            if not run.created_at or event.began >= run.created_at:
                self._tell_event(event, lost=event.lost and event.attempt == latest[event.label])

    def _events(self) -> list[Event]:
        if not self._workspace:
            return []
        try:
            self._reader = self._reader or EventReader(open_store(self._workspace))
            return self._reader.read()
        except (AttrloopError, OSError, ValueError) as error:
            self._tell(f"the progress of steps is not shown, because {self._workspace} cannot be read: {error}")
            self._workspace = ""
            return []

    def _tell_event(self, event: Event, lost: bool) -> None:
        key, quarters = (event.label, event.attempt), int((event.fraction or 0) * 4)
        new = ("lost" if lost else event.state, quarters if event.state == "running" else 0)
        if new != self._told.get(key) and new != ("running", 0):
            words = f"no sign of life for {event.silence:,.0f} s" if lost else _words(event, quarters)
            self._tell(f"{event.label} {words}")
        self._told[key] = new


def _words(event: Event, quarters: int) -> str:
    if event.failure:
        return f"failed: {event.failure.message}"
    words = [f"{event.doing} {quarters * 25} %".lstrip() if event.state == "running" else event.state]
    if event.figure:
        value = event.figure.value
        words.append(f"{event.figure.name} {f'{value:.4g}' if isinstance(value, float) else value}")
    if event.state == "running" and event.seconds_left:
        words.append(f"{event.seconds_left:,.0f} s left")
    return ", ".join(words)
