"""How a step says what it does: it feeds its event (see `events`) as it goes.

A step's work function says once that it reports. Whatever it calls feeds the event without being handed it:

    @reports("dpo")
    def train(workspace: str, stage: str, adapter: str) -> str:
        ...
        if artifact.manifest is not None:  # an earlier attempt finished the work
            reused(path)
            return path
        with progress("reference", len(pairs), "pairs") as bar:  # says how far it is
            ...
        figure("loss", loss)  # the figure that matters

The event is written when the step begins, while it runs (every 2 s on a local disk, every 20 s in a bucket) and when it
ends. A thread of its own writes it, so that feeding it costs nothing. An event that cannot be written is left out; it
never fails a step.
"""

import inspect
import json
import logging
import os
import re
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run import layout
from attrloop.components.run.events import Event, Failure, Figure
from attrloop.components.secrets import CREDENTIALS
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.store import Store

LOCAL_INTERVAL, REMOTE_INTERVAL = 2.0, 20.0  # seconds between two writes while a step runs
_LONGEST = 10_000  # characters of a failure's message
_RELAY = "ATTRLOOP_EVENT"  # names the file through which the main process of a training feeds its step's event
_RELAY_INTERVAL = 0.5  # seconds between two writes of that file
_WINDOW = 15  # writes over which the rate is measured

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class _Report:
    """The event of the step that this process runs."""

    def __init__(self, store: Store, event: Event) -> None:
        self._store, self.event = store, event
        name = event.label.replace(" ", "_").replace("/", "-of-")
        others = (path.rpartition("/")[2] for path in store.list(layout.EVENTS))
        event.attempt += sum(other.partition("_")[2] == f"{name}.json" for other in others)
        self._path = layout.event(f"{event.began:%Y%m%dT%H%M%S.%f}_{name}")
        self.found = self.made = False  # something that was finished before; something that this attempt finished
        self._counts: deque[tuple[float, float]] = deque(maxlen=_WINDOW)  # when how much was done
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._keep_writing, name="events", daemon=True)
        self._relay = Path(tempfile.gettempdir(), f"attrloop-event-{uuid.uuid4().hex}.json")

    def tell(self, **fields: Any) -> None:
        """Sets fields of the event; the writer writes them when it is time."""
        if fields.get("doing", self.event.doing) != self.event.doing:
            self.event.rate = self.event.seconds_left = None
            self._counts.clear()
            self._counts.append((time.monotonic(), fields["done"]))
        for name, value in fields.items():
            setattr(self.event, name, value)

    def begin(self) -> None:
        self._write()
        self._writer.start()
        os.environ[_RELAY] = str(self._relay)

    def end(self, failure: Failure | None) -> None:
        self._over.set()
        if self._writer.ident is not None:
            self._writer.join(REMOTE_INTERVAL)
        if os.environ.get(_RELAY) == str(self._relay):
            del os.environ[_RELAY]
        self._measure()
        self.event.state = "failed" if failure else "reused" if self.found and not self.made else "done"
        self.event.failure = failure
        self.event.ended, self.event.seconds_left = datetime.now(UTC), None
        self._write()
        self._relay.unlink(missing_ok=True)

    def _keep_writing(self) -> None:
        while not self._over.wait(REMOTE_INTERVAL if "://" in self._store.root else LOCAL_INTERVAL):
            self._measure()
            self._write()

    def _write(self) -> None:
        self.event.updated = datetime.now(UTC)
        with _harmless():
            self._store.write(self._path, self.event.model_dump_json(indent=1).encode())

    def _measure(self) -> None:
        """Takes what the processes of a training have told, and sets rate and time left."""
        with _harmless():  # the step may begin something else meanwhile
            if self._relay.exists():
                told = json.loads(self._relay.read_bytes())
                self.tell(**told | ({"figure": Figure(**told["figure"])} if "figure" in told else {}))
            if not self._counts:
                return
            event, now, (then, done) = self.event, time.monotonic(), self._counts[0]
            self._counts.append((now, event.done))
            if event.done > done:
                event.rate = (event.done - done) / (now - then)
                event.seconds_left = (event.total - event.done) / event.rate if event.total is not None else None


class _Relay:
    """Feeds the event from the main process of a training that has several: the step's process reads a file of it."""

    def __init__(self, path: str) -> None:
        self._path, self._fields, self._written = Path(path), dict[str, Any](), 0.0
        self.found = self.made = False

    def tell(self, **fields: Any) -> None:
        """Sets fields of the event."""
        self._fields |= fields
        if time.monotonic() - self._written > _RELAY_INTERVAL or fields.get("done") == fields.get("total"):
            self._written = time.monotonic()
            with _harmless():
                write_atomic(self._path, json.dumps(self._fields, default=Figure.model_dump).encode())


_current: ContextVar[_Report | None] = ContextVar("event", default=None)
_relay_to = cache(_Relay)


def current() -> _Report | _Relay | None:
    """Where this process reports to; None outside a step. Threads that a step starts have none: hand it to them."""
    if report := _current.get():
        return report
    path = os.environ.get(_RELAY, "")
    return _relay_to(path) if path and os.environ.get("RANK") == "0" else None


@contextmanager
def reporting(workspace: Store | str, step: str, *, stage: str = "", share: str = "") -> Iterator[None]:
    """Reports what is done meanwhile as one event; within a step that reports already, as part of that step.

    Args:
        workspace: the workspace's store or URI; it may not exist yet.
        step: as in `Event`.
        stage: as in `Event`.
        share: as in `Event`; `1/1` is nobody's share.
    """
    if _current.get():
        yield
        return
    report: _Report | None = None
    with _harmless():
        store = open_store(workspace) if isinstance(workspace, str) else workspace
        now = datetime.now(UTC)
        event = Event(step=step, stage=stage, share="" if share == "1/1" else share, began=now, updated=now)
        report = _Report(store, event)
        report.begin()
    before = _current.set(report)
    failure: Failure | None = None
    try:
        yield
    except BaseException as error:
        failure = _failure(error)
        raise
    finally:
        _current.reset(before)
        if report:
            report.end(failure)


def reports(step: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorates a step's work function so that it reports as `step`.

    The function's arguments `workspace`, and where it has them `stage` and `share`, say the rest.
    """

    def decorate(work: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        signature = inspect.signature(work)

        @wraps(work)
        def reported(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            more = {name: given.arguments[name] for name in ("stage", "share") if name in given.arguments}
            with reporting(given.arguments["workspace"], step, **more):
                return work(*args, **kwargs)

        return reported

    return decorate


def reused(what: str) -> None:
    """Says that something was found finished. A step that says so and makes nothing ends as `reused`.

    Args:
        what: for the log, e.g. a path in the workspace.
    """
    log.info("reusing %s", what)
    if report := current():
        report.found = True


def made() -> None:
    """Says that the step has made something; `Artifact` calls it."""
    if report := current():
        report.made = True


def advance(doing: str, done: float, total: float | None, unit: str) -> None:
    """Says how far the step is, in the terms of `Event`; `progress` calls it. Cheap enough for a hot loop."""
    if report := current():
        report.tell(doing=doing, done=done, total=total, unit=unit)


def figure(name: str, value: float | str) -> None:
    """Says the figure that matters, e.g. `figure("loss", 0.31)`; the last one said is kept."""
    if report := current():
        report.tell(figure=Figure(name=name, value=value))


def _failure(error: BaseException) -> Failure:
    remedies = [problem.remedy for problem in error.problems] if isinstance(error, InputError) else []
    kind = type(error).__name__
    if isinstance(error, AttrloopError):
        message = str(error)
    else:
        message = "it was stopped" if isinstance(error, KeyboardInterrupt | SystemExit) else f"{kind}: {error}"
        message = re.sub(r"\S+", lambda word: CREDENTIALS.sub("***", word[0]), message)
    return Failure(kind=kind, message=message[:_LONGEST], remedy="\n".join(dict.fromkeys(remedies))[:_LONGEST])


@contextmanager
def _harmless() -> Iterator[None]:
    """Goes on without an event where one cannot be written."""
    try:
        yield
    except Exception as error:
        log.debug("an event is left out: %s", error)
