"""The record of a step's event, and how a workspace's events are read."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attrloop.components.run import layout
from attrloop.components.run.events import LOST_AFTER, Event, EventReader, read_events
from attrloop.components.run.reporting import reporting
from attrloop.components.storage.local import LocalStore


class CountingStore(LocalStore):
    """A local store that counts what is read."""

    reads = 0

    def read(self, path: str) -> bytes:
        self.reads += 1
        return super().read(path)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    made = CountingStore(tmp_path / "run")
    made.write(layout.CONFIG, b"{}")
    return made


def work(store: LocalStore, step: str, stage: str = "", share: str = "") -> None:
    with reporting(store, step, stage=stage, share=share):
        pass


def test_events_come_in_the_order_in_which_they_began_and_attempts_are_counted(store: CountingStore) -> None:
    assert read_events(store) == []
    calls = [("sft", ""), ("evaluate", "sft"), ("dpo", "iteration-1"), ("evaluate", "iteration-1"), ("evaluate", "sft")]
    for step, stage in calls:
        work(store, step, stage)
    found = read_events(store)
    assert [(event.step, event.stage) for event in found] == calls
    assert [event.attempt for event in found] == [1, 1, 1, 1, 2]
    assert [event.label for event in found][:2] == ["sft", "sft evaluate"]


def test_each_worker_has_an_event_of_its_own(store: CountingStore) -> None:
    for share in ("1/2", "2/2", "1/2", "1/1"):
        work(store, "sample-chains", "iteration-1", share)
    found = read_events(store)
    assert [event.label.removeprefix("iteration-1 sample-chains") for event in found] == [" 1/2", " 2/2", " 1/2", ""]
    assert [event.attempt for event in found] == [1, 1, 2, 1]


def test_an_event_that_has_ended_is_read_once(store: CountingStore) -> None:
    reader = EventReader(store)
    work(store, "annotate")
    with reporting(store, "sft"):
        for _ in range(3):
            assert [event.state for event in reader.read()] == ["done", "running"]
    assert store.reads == 1 + 3
    assert [event.state for event in reader.read()] == [event.state for event in reader.read()] == ["done", "done"]
    assert store.reads == 1 + 3 + 1


def test_events_of_earlier_runs_can_be_left_out(store: CountingStore) -> None:
    work(store, "annotate")
    reader = EventReader(store, new_only=True)
    work(store, "annotate")
    assert [event.attempt for event in reader.read()] == [2] and store.reads == 1


def test_a_record_of_a_later_version_can_be_read(store: CountingStore) -> None:
    work(store, "sft")
    (path,) = store.list(layout.EVENTS)
    store.write(path, json.dumps(json.loads(store.read(path)) | {"schema_version": 2, "weather": "fine"}).encode())
    assert [event.step for event in read_events(store)] == ["sft"]


@pytest.mark.parametrize(
    ("state", "age", "lost"), [("running", 2, True), ("running", 0.5, False), ("failed", 2, False)]
)
def test_a_step_is_lost_when_its_last_sign_of_life_is_old(state: str, age: float, lost: bool) -> None:
    then = datetime.now(UTC) - timedelta(seconds=age * LOST_AFTER)
    assert Event.model_validate({"step": "sft", "state": state, "began": then, "updated": then}).lost is lost
