"""The view of a run, from the events that its steps have written."""

import io
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attrloop.components.console import PlainConsole
from attrloop.components.run import layout
from attrloop.components.run.events import LOST_AFTER, Event
from attrloop.components.storage.local import LocalStore
from attrloop.pipelines.local.live import LiveView

BEGAN = datetime.now(UTC)


class Run:
    """A run whose steps write events one after the other."""

    def __init__(self, folder: Path, terminal: bool = False) -> None:
        self.shown = io.StringIO()
        self.store, console = LocalStore(folder), PlainConsole(file=self.shown, force_terminal=terminal, width=120)
        self.view = LiveView(self.store, console)
        self._number = 0

    def step(self, state: str, share: str = "", **values: Any) -> None:
        self._number += 1
        began = BEGAN + timedelta(seconds=self._number)
        fields = {"step": "sample-chains", "share": share, "state": state, "began": began, "updated": began} | values
        event = Event.model_validate(fields | ({} if state == "running" else {"ended": began}))
        self.store.write(layout.event(f"{self._number}"), event.model_dump_json().encode())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.mark.parametrize(
    ("states", "failed"),
    [
        (("failed", "done"), "1/3"),
        (("failed", "running"), "1/3"),
        (("running", "failed"), "2/3"),
        (("failed", "failed", "running"), "2/3"),
        (("running", "done"), "1/3"),  # it was killed
        (("done", "reused"), None),
    ],
)
def test_the_failed_step_is_found_among_workers_that_run_at_once(
    run: Run, states: tuple[str, ...], failed: str | None
) -> None:
    for number, state in enumerate(states, 1):
        run.step(state, f"{number}/3")
    found = run.view.failed()
    assert (found.share if found else None) == failed


def test_a_failed_attempt_that_was_repeated_is_not_the_failed_step(run: Run) -> None:
    run.step("failed", "1/2")
    run.step("done", "1/2", attempt=2)
    run.step("running", "2/2")
    found = run.view.failed()
    assert found and (found.share, found.state) == ("2/2", "running")


def test_a_step_without_a_sign_of_life_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path, terminal=True)
    old = datetime.now(UTC) - timedelta(seconds=LOST_AFTER + 5)
    run.step("running", "1/2", began=old, updated=old, rate=3.0, unit="listings")
    with run.view:
        while "1/2" not in run.shown.getvalue():
            time.sleep(0.01)
    running, _, _ = run.shown.getvalue().partition("stopped")
    assert re.search(r"no sign of life for 9\d s", running) and "listings/s" not in running
