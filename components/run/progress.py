"""Progress of long work: written to the step's event, and shown as a bar on a terminal, as plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from attrloop.components.console import progress_bar, words
from attrloop.components.run import reporting

_EVERY = 2.0  # seconds between two plain lines


@contextmanager
def progress(title: str, total: int | None, unit: str) -> Iterator["Ticker"]:
    """Shows and reports how far some work is; call `advance` on what it yields.

    Args:
        title: what is done.
        total: how much there is to do; None if unknown.
        unit: what `total` counts, e.g. `listings`.
    """
    columns = (
        SpinnerColumn(),
        words("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        words("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with progress_bar(*columns, disable=not sys.stdout.isatty()) as bar:
        yield Ticker(bar, bar.add_task(title, total=total, rate=""), unit)


class Ticker:
    """Counts the work that is done; any thread may advance it."""

    def __init__(self, bar: Progress, task: TaskID, unit: str) -> None:
        self._bar, self._task, self._unit = bar, task, unit
        self._told = time.monotonic()
        self._report = reporting.current()  # here, because threads that the step starts have none
        self._tell()

    def advance(self, count: int = 1) -> None:
        """Counts work that is done; if the output is not a terminal, prints a line every two seconds and at the end."""
        self._bar.advance(self._task, count)
        task = self._bar.tasks[0]
        if task.speed:
            self._bar.update(self._task, rate=f"{task.speed:,.1f} {self._unit}/s")
        self._tell()
        now = time.monotonic()
        if self._bar.disable and (now - self._told > _EVERY or task.finished):
            self._told = now
            left = f", {task.time_remaining:.0f} s left" if task.time_remaining else ""
            of = f"/{task.total:,.0f}" if task.total is not None else ""
            print(f"{task.description}: {task.completed:,.0f}{of} {task.fields['rate']}{left}".rstrip(), flush=True)

    def _tell(self) -> None:
        task = self._bar.tasks[0]
        if self._report:
            self._report.tell(doing=task.description, done=task.completed, total=task.total, unit=self._unit)
