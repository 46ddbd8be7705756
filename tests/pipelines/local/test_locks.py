"""One run at a time in a workspace."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attrloop.components.errors import InputError
from attrloop.pipelines.local.locks import exclusive

# A run whose step (a process of its own, as in the local runner) works for two seconds and leaves a mark when it ends.
RUN = """
import subprocess, sys, time
from pathlib import Path
from attrloop.pipelines.local.locks import exclusive
folder = Path(sys.argv[1])
with exclusive(folder, print):
    code = "import sys, time; time.sleep(2); open(sys.argv[1], 'w')"
    subprocess.Popen([sys.executable, "-c", code, str(folder) + ".mark"])
    print("started", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def started(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "started\n"
    return process


def test_a_run_is_refused_where_another_is_at_work(tmp_path: Path, started: subprocess.Popen[str]) -> None:
    with pytest.raises(InputError, match=rf"another run \(process {started.pid}\)"), exclusive(tmp_path / "run", print):
        pass
    started.kill()
    started.wait()


def test_a_run_waits_for_the_step_of_a_killed_run(tmp_path: Path, started: subprocess.Popen[str]) -> None:
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    told: list[str] = []
    with exclusive(tmp_path / "run", told.append):
        assert (tmp_path / "run.mark").exists(), "the step had ended"
    assert len(told) == 1 and "waiting" in told[0]


def test_a_lock_left_behind_does_not_hold(tmp_path: Path) -> None:
    begun = time.monotonic()
    for _ in range(2):
        with exclusive(tmp_path / "run", pytest.fail):
            pass
    assert time.monotonic() - begun < 1


def test_standard_input_is_given_back(tmp_path: Path) -> None:
    before = os.fstat(0)
    with exclusive(tmp_path / "run", print):
        assert os.fstat(0) != before
    assert os.path.samestat(os.fstat(0), before)
