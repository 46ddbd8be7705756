"""The view of a running pipeline: one line for each step, from the events that the steps write into the workspace."""

import threading
from contextlib import suppress
from itertools import dropwhile
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.text import Text

from attrloop.components.console import PlainConsole
from attrloop.components.errors import AttrloopError
from attrloop.components.run.events import Event, EventReader
from attrloop.components.storage.store import Store

_EVERY = 0.25  # seconds between two looks at the events
_COLOURS = {"running": "yellow", "done": "green", "reused": "cyan", "failed": "red", "stopped": "red"}
_STEP = "Executing task "  # kfp.local's words when it starts a step
_INDENT = "    "  # kfp.local puts it before what a step prints
_TRACEBACK = "Traceback (most recent call last):\n"


class LiveView:
    """Prints a line when a step ends; on a terminal, the running steps are shown below these lines.

    A step without an event (such as should-run) is not shown.

    Args:
        store: the run's workspace; events that exist already belong to earlier runs.
        console: where to show the steps.
    """

    def __init__(self, store: Store, console: PlainConsole) -> None:
        self._reader, self._console = EventReader(store, new_only=True), console
        console.file = console.file  # otherwise rich follows the redirection of standard output into the log
        self._events: list[Event] = []
        self._told: set[tuple[str, int]] = set()  # label and attempt
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="live", daemon=True)
        self._live = Live(
            console=console, get_renderable=self._running, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> "LiveView":
        """Starts the view."""
        if self._console.is_terminal:
            self._live.start()
            self._console.show_cursor(True)  # a hidden cursor would stay hidden when the run is killed
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Shows how the last steps ended."""
        self._over.set()
        self._watcher.join()
        self._look()
        for event in self._events:
            self._tell(event, "stopped")  # a step that has not ended by now was killed
        if self._console.is_terminal:
            self._live.stop()

    def failed(self) -> Event | None:
        """The step that made the run fail, still `running` if it was killed; None if that step has no event.

        Steps may run at the same time, so this is not always the step that began last.
        """
        self._look()
        last = {event.label: event for event in self._events}  # of each step only the last attempt counts
        found = sorted((e for e in last.values() if e.state in ("failed", "running")), key=lambda e: e.began)
        return next((e for e in reversed(found) if e.state == "failed"), found[-1] if found else None)

    def _watch(self) -> None:
        while not self._over.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        with suppress(AttrloopError, OSError, ValueError):  # the next look may succeed
            self._events = self._reader.read()
        latest = {event.label: event.attempt for event in self._events}
        for event in self._events:
            if event.ended:
                self._tell(event, event.state)
            elif event.attempt < latest[event.label]:  # it was killed, and a new attempt has begun
                self._tell(event, "stopped")

    def _tell(self, event: Event, state: str) -> None:
        if (event.label, event.attempt) not in self._told:
            self._told.add((event.label, event.attempt))
            self._live.refresh()  # redraw first, or the step still shows as running
            cut = self._console.is_terminal  # in a file, lines may have any length
            self._console.print(_line(event, state), no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut)

    def _running(self) -> Group:
        return Group(*(_line(e, e.state) for e in self._events if (e.label, e.attempt) not in self._told))


def _line(event: Event, state: str) -> Text:
    """A step as one line; a narrow terminal cuts off its end."""
    fraction = f"{event.fraction:4.0%}" if state == "running" and event.fraction is not None else ""
    words = [f"{event.figure.name} {_number(event.figure.value)}"] if event.figure else []
    if state == "running" and event.lost:
        words = [f"no sign of life for {event.silence:,.0f} s"]
    elif state == "running":
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
    """How the step that ran last ended, from kfp.local's log: for a step without an event that says so."""
    printed = log.read_text(encoding="utf-8").rpartition(_STEP)[2].splitlines()
    text = "\n".join(line.removeprefix(_INDENT) for line in printed if line.startswith(_INDENT))
    _, traceback, rest = text.rpartition(_TRACEBACK)
    if not traceback:
        return "it ended without a message (killed, or out of memory?)"
    words = "\n".join(dropwhile(lambda line: line.startswith(" "), rest.splitlines())).rstrip()
    kind, _, message = words.partition(": ")
    return message if kind.endswith(("AttrloopError", "InputError")) else words
