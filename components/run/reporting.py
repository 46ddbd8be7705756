"""How a step reports what it does: it updates its event (see `events`).

A decorator on a step's work function is enough. Everything that it calls updates the same event:

    @reports("dpo")
    def train(workspace: str, stage: str, adapter: str) -> str:
        ...
        if artifact.manifest is not None:  # an earlier attempt finished the work
            reused(path)
            return path
        with progress("reference", len(pairs), "pairs") as bar:  # reports how far it is
            ...
        figure("loss", loss)  # the most important figure

The event is written when the step begins, while it runs (every 2 s on a local disk, every 20 s in a bucket) and when it
ends. One thread does all the writing, so that a slow store neither delays the step nor mixes up the order. An event
that cannot be written is left out; it never fails a step. Where there is no workspace, there are no events.
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
HEAD_START = 0.5  # seconds that a step waits at most for its first event before it begins
PATIENCE = 5.0  # seconds that a step waits at most for its last event before it ends
_LONGEST = 10_000  # characters of a failure's message
_RELAY = "ATTRLOOP_EVENT"  # names the file through which the main process of a training updates its step's event
_RELAY_INTERVAL = 0.5  # seconds between two writes of that file
_WINDOW = 15  # writes over which the rate is measured

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class _Report:
    """The event of the step that this process runs. Only the writer's thread uses the store."""

    def __init__(self, store: Store, event: Event, creates: bool) -> None:
        self._store, self.event, self._creates = store, event, creates
        self._name = event.label.replace(" ", "_").replace("/", "-of-")
        self._path = layout.event(f"{event.began:%Y%m%dT%H%M%S.%f}_{self._name}")
        self.found = self.made = False  # something that was finished before; something that this attempt finished
        self._counts: deque[tuple[float, float]] = deque(maxlen=_WINDOW)  # (time, units done by then)
        self._begun, self._over = threading.Event(), threading.Event()
        self._last = dict[str, Any]()  # fields of the final event
        self._writer = threading.Thread(target=self._write_all, name="events", daemon=True)
        self._relay = Path(tempfile.gettempdir(), f"attrloop-event-{uuid.uuid4().hex}.json")

    def tell(self, **fields: Any) -> None:
        """Sets fields of the event; the writer writes them later."""
        if fields.get("doing", self.event.doing) != self.event.doing:
            self.event.rate = self.event.seconds_left = None
            self._counts.clear()
            self._counts.append((time.monotonic(), fields["done"]))
        for name, value in fields.items():
            setattr(self.event, name, value)

    def begin(self) -> None:
        os.environ[_RELAY] = str(self._relay)
        self._writer.start()
        self._begun.wait(HEAD_START)

    def end(self, failure: Failure | None) -> None:
        if os.environ.get(_RELAY) == str(self._relay):
            del os.environ[_RELAY]
        state = "failed" if failure else "reused" if self.found and not self.made else "done"
        self._last = {"state": state, "failure": failure, "ended": datetime.now(UTC), "seconds_left": None}
        self._over.set()
        self._writer.join(PATIENCE)
        self._relay.unlink(missing_ok=True)

    def _write_all(self) -> None:
        wanted = False
        with _harmless():
            wanted = self._count_attempts()
        if wanted:
            self._write()
        self._begun.set()
        while wanted and not self._over.wait(REMOTE_INTERVAL if "://" in self._store.root else LOCAL_INTERVAL):
            self._measure()
            self._write()
        if wanted:
            self._measure()
            self.tell(**self._last)
            self._write()

    def _count_attempts(self) -> bool:
        """Sets the number of this attempt; False where there is no workspace, which an event must not create."""
        if self._store.check() if self._creates else not self._store.exists(layout.CONFIG):
            return False
        others = (path.rpartition("/")[2] for path in self._store.list(layout.EVENTS))
        self.event.attempt += sum(other.partition("_")[2] == f"{self._name}.json" for other in others)
        return True

    def _write(self) -> None:
        self.event.updated = datetime.now(UTC)
        with _harmless():
            self._store.write(self._path, self.event.model_dump_json(indent=1).encode())

    def _measure(self) -> None:
        """Takes over what the processes of a training have written, and sets rate and time left."""
        with _harmless():  # the step may begin something else at the same time
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
    """Updates the event from the main process of a training, through a file that the step's process reads."""

    def __init__(self, path: str) -> None:
        self._path, self._fields, self._written = Path(path), dict[str, Any](), 0.0
        self.found = self.made = False

    def tell(self, **fields: Any) -> None:
        """Sets fields of the event."""
        self._fields |= fields
        finished = "done" in fields and fields["done"] == fields.get("total")
        if finished or time.monotonic() - self._written > _RELAY_INTERVAL:
            self._written = time.monotonic()
            with _harmless():
                write_atomic(self._path, json.dumps(self._fields, default=Figure.model_dump).encode())


_current: ContextVar[_Report | None] = ContextVar("event", default=None)
_relay_to = cache(_Relay)


def current() -> _Report | _Relay | None:
    """What this process updates; None outside a step. Threads that a step starts have none: pass it to them."""
    if report := _current.get():
        return report
    path = os.environ.get(_RELAY, "")
    return _relay_to(path) if path and os.environ.get("RANK") == "0" else None


@contextmanager
def reporting(
    workspace: Store | str,
    step: str,
    *,
    stage: str = "",
    share: str = "",
    creates: bool = False,
    only_failure: bool = False,
) -> Iterator[None]:
    """Reports the work of its block as one event; within a step that reports already, as part of that step.

    Args:
        workspace: the workspace's store or URI. Nothing is reported if it does not exist.
        step: as in `Event`.
        stage: as in `Event`.
        share: as in `Event`; `1/1` counts as none.
        creates: the step creates the workspace: it may not exist yet.
        only_failure: for bookkeeping, which nobody needs to see: there is an event only if the step fails.
    """
    if _current.get():
        yield
        return
    report: _Report | None = None
    with _harmless():
        store = open_store(workspace) if isinstance(workspace, str) else workspace
        now = datetime.now(UTC)
        event = Event(step=step, stage=stage, share="" if share == "1/1" else share, began=now, updated=now)
        report = _Report(store, event, creates)
        if not only_failure:
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
        with _harmless():
            if report and failure and only_failure:
                report.begin()
            if report and (failure or not only_failure):
                report.end(failure)


def reports(
    step: str, *, creates: bool = False, only_failure: bool = False
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorates a step's work function so that it reports as `step`.

    The event takes `workspace`, `stage` and `share` from the function's arguments of these names.

    Args:
        step: as in `reporting`.
        creates: as in `reporting`.
        only_failure: as in `reporting`.
    """

    def decorate(work: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        signature = inspect.signature(work)

        @wraps(work)
        def reported(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            more = {name: given.arguments[name] for name in ("stage", "share") if name in given.arguments}
            with reporting(given.arguments["workspace"], step, creates=creates, only_failure=only_failure, **more):
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
    """Reports how far the step is, in the terms of `Event`; `progress` calls it. Cheap enough for a hot loop."""
    if report := current():
        report.tell(doing=doing, done=done, total=total, unit=unit)


def figure(name: str, value: float | str) -> None:
    """Reports the most important figure, e.g. `figure("loss", 0.31)`; the last one is kept."""
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
    """Ignores errors, so that a failed event never stops a step."""
    try:
        yield
    except Exception as error:
        log.debug("an event is left out: %s", error)
