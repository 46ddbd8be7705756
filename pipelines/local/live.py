"""What a person sees of a run: one line for each step, from the events that the steps leave in the workspace."""

import threading
from contextlib import suppress
from itertools import dropwhile
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from attrloop.components.errors import AttrloopError
from attrloop.components.run.events import Event, EventReader
from attrloop.components.storage.store import Store

_EVERY = 0.25  # seconds between two looks at the events
_COLOURS = {"running": "yellow", "done": "green", "reused": "cyan", "failed": "red", "stopped": "red"}
_STEP = "Executing task "  # kfp.local's words when it starts a step
_INDENT = "    "  # kfp.local puts it before what a step prints
_TRACEBACK = "Traceback (most recent call last):\n"


class LiveView:
    """Prints a line when a step ends; on a terminal it shows the steps that run below these lines.

    A step without an event is not shown: it keeps the loop's books and takes no time.

    Args:
        store: the run's workspace; events that are there already belong to earlier runs.
        console: where to show the steps.
    """

    def __init__(self, store: Store, console: Console) -> None:
        self._reader, self._console = EventReader(store, new_only=True), console
        console.file = console.file  # else rich would follow the redirection of standard output into the log
        self._events: list[Event] = []
        self._told: set[tuple[str, int]] = set()  # label and attempt
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="live", daemon=True)
        self._live = Live(
            console=console, get_renderable=self._running, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> "LiveView":
        """Starts to show the run."""
        if self._console.is_terminal:
            self._live.start()
            self._console.show_cursor(True)  # hidden, it would stay so when the run is killed
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Shows how the last steps ended."""
        self._over.set()
        self._watcher.join()
        self._look()
        for event in self._events:
            self._tell(event, "stopped")  # what has not ended by now was killed
        if self._console.is_terminal:
            self._live.stop()

    def failed(self) -> Event | None:
        """The step at which the run broke off, still `running` if it was killed; None where that step has no event."""
        self._look()
        last = self._events[-1] if self._events else None
        return last if last and last.state in ("failed", "running") else None

    def _watch(self) -> None:
        while not self._over.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        with suppress(AttrloopError, OSError, ValueError):  # the next look may find what this one could not read
            self._events = self._reader.read()
        latest = {event.label: event.attempt for event in self._events}
        for event in self._events:
            if event.ended:
                self._tell(event, event.state)
            elif event.attempt < latest[event.label]:  # it was killed, and is tried again
                self._tell(event, "stopped")

    def _tell(self, event: Event, state: str) -> None:
        if (event.label, event.attempt) not in self._told:
            self._told.add((event.label, event.attempt))
            self._live.refresh()  # it is not to be seen as running below the line that says how it ended
            cut = self._console.is_terminal  # a file takes lines of any length
            self._console.print(_line(event, state), no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut)

    def _running(self) -> Group:
        return Group(*(_line(e, e.state) for e in self._events if (e.label, e.attempt) not in self._told))


def _line(event: Event, state: str) -> Text:
    """A step as one line; a narrow terminal cuts its end off."""
    fraction = f"{event.fraction:4.0%}" if state == "running" and event.fraction is not None else ""
    words = [f"{event.figure.name} {_number(event.figure.value)}"] if event.figure else []
    if state == "running":
        words += [f"{event.seconds_left:,.0f} s left"] if event.seconds_left else []
        words += [f"{event.rate:,.1f} {event.unit}/s"] if event.rate is not None else []
    line = Text.assemble(
        f"{event.label:<26} ",
        (f"{state:<8}", _COLOURS[state]),
        f" {event.seconds:7.1f} s {fraction:<4}  ",
        (", ".join(words), "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
    line.rstrip()
    return line


def _number(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def last_words(log: Path) -> str:
    """How the step that ran last ended, from kfp.local's log: for a step that could not say so in an event."""
    printed = log.read_text(encoding="utf-8").rpartition(_STEP)[2].splitlines()
    text = "\n".join(line.removeprefix(_INDENT) for line in printed if line.startswith(_INDENT))
    _, traceback, rest = text.rpartition(_TRACEBACK)
    if not traceback:
        return "it ended without a message (killed, or out of memory?)"
    words = "\n".join(dropwhile(lambda line: line.startswith(" "), rest.splitlines())).rstrip()
    kind, _, message = words.partition(": ")
    return message if kind.endswith(("AttrloopError", "InputError")) else words
