"""What the steps of a run do and did: one small JSON object for each attempt of a step, in `events/` of the workspace.

`reporting` writes them. Anyone may read them, also from outside while a run is on a cluster. They only inform: no step
reads one.
"""

import logging
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from attrloop.components.errors import InputError
from attrloop.components.run import layout
from attrloop.components.storage.store import Store

log = logging.getLogger(__name__)
LOST_AFTER = 90.0  # seconds without a write after which a running step is taken for killed


class Figure(BaseModel):
    """The most important figure of a step, e.g. its loss, its accuracy, its cost in US dollars."""

    name: str
    value: int | float | str


class Failure(BaseModel):
    """Why a step failed.

    Attributes:
        kind: the exception's class, e.g. `InputError`.
        message: what went wrong, with every problem of an `InputError`, but without a traceback.
        remedy: what to do, one line for each remedy; "" if unknown.
    """

    kind: str
    message: str
    remedy: str = ""


class Event(BaseModel):
    """One attempt of a step. Readers ignore fields that they do not know.

    Attributes:
        step: the step's name in the pipeline, e.g. `sample-chains`.
        stage: the stage of the loop that it works on, e.g. `iteration-1`; "" for a step that serves the whole run.
        share: the worker's slice of the work, e.g. `2/4`; "" where one worker does everything.
        attempt: counts how often this step began in this workspace, from 1.
        state: `running`, `done`, `reused` (there was nothing left to do) or `failed`. A step that was killed stays
            `running`: see `lost`.
        doing: what `done` and `total` count, e.g. `training`; a step may do several things in turn.
        done: how much of it is done, in units.
        total: how much there is to do; None if unknown.
        unit: e.g. `listings`.
        rate: recent units per second; None until known.
        seconds_left: until `doing` is done; None until known.
        figure: the most important figure; None until there is one.
        began: UTC.
        updated: when this record was last written, UTC; a running step writes it regularly.
        ended: UTC; None while it runs.
        failure: why it failed; None unless `state` is `failed`.
    """

    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="strings")  # a loss may be no number
    schema_version: int = 1
    step: str
    stage: str = ""
    share: str = ""
    attempt: int = 1
    state: Literal["running", "done", "reused", "failed"] = "running"
    doing: str = ""
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    rate: float | None = None
    seconds_left: float | None = None
    figure: Figure | None = None
    began: datetime
    updated: datetime
    ended: datetime | None = None
    failure: Failure | None = None

    @property
    def label(self) -> str:
        """The step's name for people, e.g. `iteration-1 sample-chains 2/4`; the same for every attempt."""
        return " ".join(filter(None, (self.stage, self.step, self.share)))

    @property
    def fraction(self) -> float | None:
        """How much of `doing` is done, in [0, 1]; None if unknown."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def seconds(self) -> float:
        """How long the step took, or how long it has been running."""
        return ((self.ended or datetime.now(UTC)) - self.began).total_seconds()

    @property
    def lost(self) -> bool:
        """Whether the step was most likely killed: it did not end, and its last sign of life is old."""
        return self.state == "running" and self.silence > LOST_AFTER

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life: since this record was written."""
        return (datetime.now(UTC) - self.updated).total_seconds()


class EventReader:
    """Reads a workspace's events repeatedly; an event that has ended is read once.

    Args:
        store: the workspace's.
        new_only: leaves out the events that exist already.
    """

    def __init__(self, store: Store, new_only: bool = False) -> None:
        self._store = store
        self._ended: dict[str, Event] = {}
        self._skipped = frozenset(store.list(layout.EVENTS)) if new_only else frozenset[str]()

    def read(self) -> list[Event]:
        """The events in the order in which they began. One that is damaged is left out: they only inform.

        Raises:
            AttrloopError: the store cannot be reached.
        """
        found = []
        for path in self._store.list(layout.EVENTS):  # a path starts with the time at which the event began
            if path in self._skipped:
                continue
            event = self._ended.get(path) or self._read(path)
            if event is None:
                continue
            if event.ended:
                self._ended[path] = event
            found.append(event)
        return found

    def _read(self, path: str) -> Event | None:
        try:
            return Event.model_validate_json(self._store.read(path))
        except ValidationError:
            log.debug("%s/%s is damaged and is left out", self._store.root, path)
        except InputError:  # removed since it was listed
            log.debug("%s/%s is gone", self._store.root, path)
        return None


def read_events(store: Store) -> list[Event]:
    """The events of a workspace, in the order in which they began; to poll, keep an `EventReader`.

    Raises:
        AttrloopError: the store cannot be reached.
    """
    return EventReader(store).read()
