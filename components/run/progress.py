"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress(title: str, total: int | None, unit: str) -> Iterator["Ticker"]:
    """A progress bar with rate and time left; plain lines where the output is no terminal."""
    count, rate = MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        count,
        rate,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        yield Ticker(bar, bar.add_task(title, total=total, rate=""), unit)


@dataclass
class Ticker:
    bar: Progress
    task: TaskID
    unit: str
    told: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1) -> None:
        """Counts work that is done; where the output is no terminal, says so every two seconds and at the end."""
        task = self.bar.tasks[0]
        self.bar.advance(self.task, count)
        if task.speed:
            self.bar.update(self.task, rate=f"{task.speed:,.1f} {self.unit}/s")
        now = time.monotonic()
        if self.bar.disable and (now - self.told > 2 or task.finished):
            self.told = now
            left = f", {task.time_remaining:.0f} s left" if task.time_remaining else ""
            of = f"/{task.total:,.0f}" if task.total is not None else ""
            print(f"{task.description}: {task.completed:,.0f}{of} {task.fields['rate']}{left}".rstrip(), flush=True)
