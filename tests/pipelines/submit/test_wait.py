"""`attrloop submit --wait`, as a script sees it: what it prints, and its exit code."""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attrloop.components.run import layout
from attrloop.components.run.events import LOST_AFTER, Event, Failure, Figure
from attrloop.components.storage.opening import open_store
from attrloop.pipelines.definitions.compile import compile_to
from attrloop.pipelines.submit.step_lines import Steps, steps_of
from attrloop.pipelines.submit.submission import Wanted, plan
from tests.pipelines.submit.backend import GOOD
from tests.pipelines.submit.conftest import Server, options

WAIT = ("--wait", "--every", "0.2")


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        (GOOD, 0, "run succeeded"),
        ([["RUNNING", {"sft": "RUNNING"}], ["FAILED", {"sft": "FAILED"}]], 1, "sft: sft ran out of memory"),
        ([["RUNNING", {}], ["CANCELING", {}], ["CANCELED", {}]], 3, "run canceled"),
        ([["SKIPPED", {}]], 3, "run skipped"),
    ],
    ids=["succeeded", "failed", "cancelled", "skipped"],
)
def test_the_exit_code_tells_how_the_run_ended(
    server: Server, wanted: Wanted, script: list[Any], code: int, said: str
) -> None:
    server.set(script=script)
    done = server.attrloop("submit", *options(wanted), *WAIT)
    out, err = done.communicate(timeout=60)
    assert done.returncode == code, err
    assert said in err and "Traceback" not in err
    assert out.splitlines()[-1] == server.rows("runs")[0]["run_id"]


def test_every_change_is_told_once(server: Server, wanted: Wanted) -> None:
    server.set(script=[state for state in GOOD for _ in range(3)])
    _, err = server.attrloop("submit", *options(wanted), *WAIT).communicate(timeout=60)
    told = [line.split(maxsplit=1)[1] for line in err.splitlines() if line[2:3] == ":"]
    assert told == [
        "run pending",
        "preflight running",
        "run running",
        "preflight succeeded",
        "sft running",
        "sft succeeded",
        "run succeeded",
    ]


def test_what_the_steps_write_into_the_workspace_is_told(server: Server, wanted: Wanted, tmp_path: Path) -> None:
    began = datetime.now(UTC) + timedelta(minutes=1)  # after the run, which is created next

    def event(step: str, **values: Any) -> Event:
        return Event(**({"step": step, "began": began, "updated": began} | values))

    workspace = open_store(plan(wanted, tmp_path).arguments["workspace"])
    for number, one in enumerate(
        (
            event("preflight", began=began - timedelta(days=1), state="failed"),
            event("preflight", state="reused", attempt=2, ended=began),
            event("sft", state="done", figure=Figure(name="loss", value=0.5), ended=began),
            event("dpo", stage="iteration-1", doing="training", done=60, total=100, unit="updates", seconds_left=40),
            event("evaluate", stage="sft", done=1, total=100),
            event("promote", state="failed", failure=Failure(kind="AttrloopError", message="it broke")),
        )
    ):
        workspace.write(f"{layout.EVENTS}/{number}.json", one.model_dump_json().encode())
    server.set(script=[["RUNNING", {}]] * 3 + [["SUCCEEDED", {}]])
    _, err = server.attrloop("submit", *options(wanted), *WAIT).communicate(timeout=60)
    assert [line[11:] for line in err.splitlines() if line[8:11] == "   "] == [
        "preflight reused",
        "sft done, loss 0.5",
        "iteration-1 dpo training 50 %, 40 s left",
        "promote failed: it broke",
    ]


def test_a_step_without_a_sign_of_life_is_told_once(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, told, workspace = now - timedelta(seconds=LOST_AFTER + 5), list[str](), open_store(tmp_path)

    def write(number: int, **values: Any) -> None:
        event = Event(**({"step": "dpo", "stage": "iteration-1", "began": old, "updated": old} | values))
        workspace.write(layout.event(f"{number}"), event.model_dump_json().encode())

    steps = Steps(frozenset(), str(tmp_path), told.append)
    run = SimpleNamespace(run_details=None, created_at=None)
    write(0, step="sft")
    write(1, step="sft", attempt=2, updated=now)  # the killed attempt before it is of no interest
    write(2)
    for _ in range(3):
        steps.look(run)
    assert len(told) == 1 and re.fullmatch(r"iteration-1 dpo no sign of life for 9\d s", told[0])
    write(2, updated=now, doing="training", done=1, total=2)
    steps.look(run)
    assert told[1:] == ["iteration-1 dpo training 50 %"]


def test_a_workspace_that_cannot_be_read_is_told_once(server: Server, wanted: Wanted) -> None:
    places = ("--set", "workspace=gs://not-there/run", "--set", "config=gs://not-there/config.yaml")
    server.set(script=[["RUNNING", {}]] * 3 + [["SUCCEEDED", {}]])
    done = server.attrloop("submit", "--pipeline", str(wanted.pipeline), *places, *WAIT)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert err.count("gs://not-there/run cannot be read") == 1


def test_when_the_time_is_up_the_run_goes_on(server: Server, wanted: Wanted) -> None:
    server.set(script=[["RUNNING", {}]])
    done = server.attrloop("submit", *options(wanted), *WAIT, "--timeout", "1")
    _, err = done.communicate(timeout=60)
    assert done.returncode == 4 and "Still running after 1 s" in err
    assert [row["state"] for row in server.rows("runs")] == ["RUNNING"]


@pytest.mark.slow
def test_a_server_that_restarts_is_waited_for(server: Server, wanted: Wanted) -> None:
    server.set(script=[["RUNNING", {}]] * 5 + [["SUCCEEDED", {}]])
    waiting = server.attrloop("submit", *options(wanted), *WAIT)
    assert waiting.stdout is not None
    while not waiting.stdout.readline().startswith("run "):
        pass
    server.stop()
    time.sleep(1)
    server.start()
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and "Trying again" in err and "run succeeded" in err
    assert len(server.rows("runs")) == 1


def test_a_run_that_is_lost_sight_of_has_a_code_of_its_own(server: Server, wanted: Wanted) -> None:
    """A token that expired for good does not mean that the run failed."""
    server.set(script=[["RUNNING", {}]])
    waiting = server.attrloop("submit", *options(wanted), *WAIT)
    assert waiting.stdout is not None
    while not waiting.stdout.readline().startswith("run "):
        pass
    server.set(needs={"authorization": "Bearer another"})
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 5 and "goes on; the same command again joins it" in err


def test_what_cannot_be_started_ends_with_1_and_a_message(server: Server, wanted: Wanted) -> None:
    server.set(needs={"authorization": "Bearer another"})
    done = server.attrloop("submit", *options(wanted), *WAIT)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 1 and "401 Unauthorized: Unauthenticated. Check --auth" in err and "Traceback" not in err
    assert out == "" and server.rows("runs") == []


def test_a_setting_without_a_value_is_wrong_usage(server: Server, wanted: Wanted) -> None:
    done = server.attrloop("submit", *options(wanted), "--set", "seed")
    _, err = done.communicate(timeout=60)
    assert done.returncode == 2 and "is not NAME=VALUE" in err


def test_the_steps_that_people_follow_are_named_without_the_bookkeeping(tmp_path: Path) -> None:
    compile_to(tmp_path / "loop.yaml")
    loop = {"preflight", "annotate", "sft", "evaluate", "sample-chains", "mine-pairs", "dpo", "evaluate-test"}
    assert steps_of(tmp_path / "loop.yaml") == loop | {"register-adapter", "promote", "report"}
