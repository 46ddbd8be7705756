"""How a step updates its event: at almost no cost, and without any harm to the step."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attrloop.components.errors import AttrloopError, InputError, Problem
from attrloop.components.run import layout
from attrloop.components.run import reporting as module
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.events import Event, read_events
from attrloop.components.run.progress import progress
from attrloop.components.run.reporting import advance, figure, reporting, reports, reused
from attrloop.components.storage.local import LocalStore
from attrloop.components.storage.opening import open_store
from tests.emulator import Gateway


class CountingStore(LocalStore):
    """A local store that keeps everything that was written."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: list[Event] = []

    def write(self, path: str, data: bytes) -> None:
        self.written.append(Event.model_validate_json(data))
        super().write(path, data)


@pytest.fixture(autouse=True)
def workspaces(tmp_path: Path) -> None:
    """`tmp_path` and its folder `run` are workspaces."""
    for folder in (tmp_path, tmp_path / "run"):
        LocalStore(folder).write(layout.CONFIG, b"{}")


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path / "run")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are written every 50 ms."""
    monkeypatch.setattr(module, "LOCAL_INTERVAL", 0.05)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@reports("dpo")
def train(workspace: str, stage: str, share: str = "1/1", error: BaseException | None = None) -> str:
    if error:
        raise error
    return f"{stage} {share}"


def test_a_work_function_says_which_step_it_is(tmp_path: Path) -> None:
    assert train(str(tmp_path), "iteration-2") == "iteration-2 1/1"
    assert train(str(tmp_path), stage="iteration-2", share="2/3") == "iteration-2 2/3"
    found = read_events(open_store(tmp_path))
    assert [event.label for event in found] == ["iteration-2 dpo", "iteration-2 dpo 2/3"]
    assert all(event.state == "done" and event.ended and event.began <= event.ended <= event.updated for event in found)


def test_a_short_step_is_written_when_it_begins_and_when_it_ends(store: CountingStore) -> None:
    with reporting(store, "mine-pairs", stage="iteration-1"):
        for k in range(10_001):
            advance("mining", k, 10_000, "chains")
            figure("agreement", k / 10_000)
    assert [event.state for event in store.written] == ["running", "done"]
    last = store.written[-1]
    assert (last.doing, last.done, last.total, last.unit, last.fraction) == ("mining", 10_000, 10_000, "chains", 1)
    assert last.figure and (last.figure.name, last.figure.value) == ("agreement", 1.0)


@pytest.mark.usefixtures("hasty")
def test_a_long_step_is_written_now_and_then_however_often_it_is_told(store: CountingStore) -> None:
    begun = time.monotonic()
    with reporting(store, "sft"):
        told = 0
        while time.monotonic() - begun < 0.5:
            told += 1
            advance("training", told, None, "steps")
    assert 4 <= len(store.written) <= 2 + 0.5 / 0.05 < 100 < told
    assert [event.updated for event in store.written] == sorted({event.updated for event in store.written})


@pytest.mark.usefixtures("hasty")
def test_a_step_that_says_nothing_still_shows_that_it_lives(store: CountingStore) -> None:
    with reporting(store, "register-adapter"):
        wait_for(lambda: len(store.written) >= 4)
    assert len({event.updated for event in store.written}) == len(store.written)


@pytest.mark.usefixtures("hasty")
def test_rate_and_time_left_are_those_of_what_is_being_done(store: CountingStore) -> None:
    with reporting(store, "dpo", stage="iteration-1"):
        with progress("reference", 1000, "pairs") as bar:
            for _ in range(10):
                bar.advance(100)
                time.sleep(0.05)
        first = len(store.written)
        with progress("training", 40, "steps") as bar:
            for _ in range(20):
                bar.advance()
                time.sleep(0.02)
    early, late = ([e for e in part if e.rate] for part in (store.written[:first], store.written[first + 2 :]))
    assert early[-1].doing == "reference" and 300 < (early[-1].rate or 0) < 2500
    assert late[-1].doing == "training" and 5 < (late[-1].rate or 0) < 60
    assert all(e.seconds_left == pytest.approx((40 - e.done) / e.rate) for e in late if e.rate and not e.ended)
    assert late[-1].seconds_left is None


def test_few_objects_are_written_to_a_bucket(faulty: Gateway, bucket: str) -> None:
    open_store(f"{bucket}/runs/one").write(layout.CONFIG, b"{}")
    faulty.seen.clear()
    with reporting(f"{bucket}/runs/one", "sample-chains", stage="iteration-1", share="2/4"):
        for k in range(1000):
            advance("chains", k, 1000, "listings")
        time.sleep(2.5)  # on a disk it would have been written in between
    assert [method for method, _ in faulty.seen] == ["GET", "GET", "POST", "POST"]
    (event,) = read_events(open_store(f"{bucket}/runs/one"))
    assert event.state == "done" and event.done == 999 and event.label == "iteration-1 sample-chains 2/4"


def test_a_step_that_finds_its_work_done_says_so(store: CountingStore) -> None:
    @reports("mine-pairs")
    def mine(workspace: LocalStore) -> None:
        artifact = Artifact(workspace, "pairs", {"from": "chains"})
        if artifact.manifest is not None:
            reused(artifact.path)
            return
        artifact.finish("pairs", {}, [])

    plain = LocalStore(store.root)
    for _ in range(2):
        mine(plain)
    assert [event.state for event in read_events(plain)] == ["done", "reused"]


def test_a_step_that_makes_anything_has_not_reused_its_work(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    Artifact(store, "evaluate/base", {}).finish("evaluation", {}, [])
    with reporting(store, "evaluate", stage="sft"):
        reused("the evaluation of base")
        Artifact(store, "evaluate/sft", {}).finish("evaluation", {}, [])
    assert [event.state for event in read_events(store)] == ["done"]


def test_work_within_a_step_belongs_to_its_event(tmp_path: Path) -> None:
    with reporting(str(tmp_path), "evaluate-test"):
        train(str(tmp_path), "iteration-1")
        figure("macro accuracy", 0.5)
    assert [event.step for event in read_events(open_store(tmp_path))] == ["evaluate-test"]


def test_threads_of_a_step_may_advance_its_progress(tmp_path: Path) -> None:
    with (
        reporting(str(tmp_path), "annotate"),
        progress("annotate", 200, "listings") as bar,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda _: bar.advance(), range(200)))
    (event,) = read_events(open_store(tmp_path))
    assert (event.done, event.total, event.unit) == (200, 200, "listings")


PROBLEMS = [Problem("a.jsonl:3", "not a value", "Use solid"), Problem("b.jsonl:4", "not a value", "Use solid")]


@pytest.mark.parametrize(
    ("error", "kind", "message", "remedy"),
    [
        (InputError(PROBLEMS), "InputError", f"2 problems found:\n  - {PROBLEMS[0]}\n  - {PROBLEMS[1]}", "Use solid"),
        (AttrloopError("out of memory. Lower batch_size."), "AttrloopError", "out of memory. Lower batch_size.", ""),
        (KeyError("nothing"), "KeyError", "KeyError: 'nothing'", ""),
        (OSError("http://me:pw@host/ is down"), "OSError", "OSError: http://***host/ is down", ""),
        (KeyboardInterrupt(), "KeyboardInterrupt", "it was stopped", ""),
        (SystemExit(143), "SystemExit", "it was stopped", ""),
    ],
)
def test_a_failed_step_says_why(tmp_path: Path, error: BaseException, kind: str, message: str, remedy: str) -> None:
    with pytest.raises(type(error)) as caught:
        train(str(tmp_path), "iteration-1", error=error)
    assert caught.value is error
    (event,) = read_events(open_store(tmp_path))
    assert event.state == "failed" and event.ended and event.failure
    assert (event.failure.kind, event.failure.message, event.failure.remedy) == (kind, message, remedy)


def test_a_loss_that_is_no_number_can_be_read_again(tmp_path: Path) -> None:
    with reporting(str(tmp_path), "sft"):
        figure("loss", math.nan)
    (event,) = read_events(open_store(tmp_path))
    assert event.figure and event.figure.value == "NaN"


def test_a_step_does_its_work_where_no_event_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (str(tmp_path / "file"), "ftp://elsewhere/run"):
        assert train(place, "iteration-1") == "iteration-1 1/1"
    assert os.environ.get("ATTRLOOP_EVENT") is None


def test_a_store_that_fails_later_harms_nothing(store: CountingStore, tmp_path: Path) -> None:
    with reporting(store, "sft"):
        (tmp_path / "run").rename(tmp_path / "gone")
        (tmp_path / "run").touch()
    assert [event.state for event in read_events(open_store(tmp_path / "gone"))] == ["running"]


class SlowStore(LocalStore):
    """A local store whose writes wait until `up` is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.up = threading.Event()

    def write(self, path: str, data: bytes) -> None:
        self.up.wait()
        super().write(path, data)


def test_a_slow_store_delays_a_step_by_a_few_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_START", 0.1)
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    store, begun = SlowStore(tmp_path), time.monotonic()
    with reporting(store, "sft"):
        assert time.monotonic() - begun < 5
    assert time.monotonic() - begun < 5
    assert read_events(store) == []
    store.up.set()
    wait_for(lambda: any(event.ended for event in read_events(store)))
    time.sleep(0.2)  # no late write may replace the last one
    assert [event.state for event in read_events(store)] == ["done"]


def test_a_step_waits_for_its_last_event_where_the_store_is_up(tmp_path: Path) -> None:
    class Store(LocalStore):
        def write(self, path: str, data: bytes) -> None:
            time.sleep(0.3)
            super().write(path, data)

    with reporting(Store(tmp_path), "sft"):
        pass
    assert [event.state for event in read_events(open_store(tmp_path))] == ["done"]


def test_an_event_does_not_create_a_workspace(tmp_path: Path) -> None:
    train(str(tmp_path / "typo"), "iteration-1")
    with pytest.raises(ValueError):
        train(str(tmp_path / "typo"), "iteration-1", error=ValueError("no such file"))
    assert not (tmp_path / "typo").exists()


def test_the_step_that_creates_the_workspace_is_reported(tmp_path: Path) -> None:
    with reporting(str(tmp_path / "new"), "preflight", creates=True):
        pass
    assert [event.state for event in read_events(open_store(tmp_path / "new"))] == ["done"]


def test_no_event_is_written_into_a_bucket_itself(bucket: str) -> None:
    root = "/".join(bucket.split("/")[:3])
    before = open_store(root).list(layout.EVENTS)
    with reporting(root, "preflight", creates=True):
        pass
    assert open_store(root).list(layout.EVENTS) == before


def test_bookkeeping_is_seen_only_when_it_fails(tmp_path: Path) -> None:
    @reports("share-out", only_failure=True)
    def share_out(workspace: str, stage: str, workers: int) -> float:
        return 1 / workers

    assert share_out(str(tmp_path), "iteration-1", 2) == 0.5
    assert read_events(open_store(tmp_path)) == []
    with pytest.raises(ZeroDivisionError):
        share_out(str(tmp_path), "iteration-1", 0)
    (event,) = read_events(open_store(tmp_path))
    assert (event.label, event.state) == ("iteration-1 share-out", "failed")


def test_figures_of_a_training_are_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[bytes]()
    monkeypatch.setattr(module, "write_atomic", lambda _, data: written.append(data))
    monkeypatch.setattr(module, "_RELAY_INTERVAL", 60.0)
    monkeypatch.setenv("ATTRLOOP_EVENT", str(tmp_path / "relay.json"))
    monkeypatch.setenv("RANK", "0")
    for k in range(100):
        figure("loss", float(k))
    assert len(written) <= 1
    advance("training", 4, 4, "steps")
    assert b"99.0" in written[-1] and b'"done": 4' in written[-1]


def test_outside_a_step_nothing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with progress("things", 1, "things") as bar:
        bar.advance()
    figure("loss", 1.0)
    reused("everything")
    assert list((tmp_path / "here").iterdir()) == []


KILLED = """
import sys, time
from attrloop.components.run.reporting import advance, reporting
with reporting(sys.argv[1], "sft"):
    advance("training", 1, 4, "steps")
    print("started", flush=True)
    time.sleep(60)
"""


def test_a_killed_step_stays_running_and_is_begun_anew_as_another_attempt(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with reporting(str(tmp_path), "sft"):
        pass
    killed, again = read_events(open_store(tmp_path))
    assert (killed.state, killed.ended, killed.attempt) == ("running", None, 1)
    assert (again.state, again.attempt) == ("done", 2)


def work_in_processes(steps: int) -> None:
    """As a training does in each of its processes; the second says other things, which do not count."""
    for k in range(steps):
        advance("training", k + 1, steps, "steps" if os.environ["RANK"] == "0" else "wrong")
    figure("loss", float(os.environ["RANK"]))
    advance("training", steps, steps, "steps")


@pytest.mark.slow
def test_the_main_process_of_a_training_feeds_the_event_of_its_step(tmp_path: Path) -> None:
    from attrloop.components.model.processes import spread

    with reporting(str(tmp_path), "sft"):
        spread(work_in_processes, 2, 25)
    (event,) = read_events(open_store(tmp_path))
    assert (event.state, event.doing, event.done, event.total, event.unit) == ("done", "training", 25, 25, "steps")
    assert event.figure and (event.figure.name, event.figure.value) == ("loss", 0.0)
