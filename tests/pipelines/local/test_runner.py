"""Runs through kfp.local: what a person sees of them, and what is said when a step fails."""

import importlib.util
import io
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import compiler, dsl

from attrloop.components.console import PlainConsole
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run import layout
from attrloop.components.run.config import DataConfig, ModelConfig, RunConfig, SampleConfig
from attrloop.pipelines.local.runner import run_local, run_pipeline


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def fail_on_input(workspace: str) -> str:
    from attrloop.components.errors import InputError, Problem
    from attrloop.components.run.reporting import reporting

    print("looking at the labels")
    with reporting(workspace, "annotate"):
        raise InputError(
            [
                Problem("labels.jsonl:3 (mug-7)", "'stripy' is not a value of pattern", "Use one of: solid"),
                Problem("schema.yaml", "empty", "Add one"),
            ]
        )


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def fail_unexpectedly(workspace: str) -> str:
    from attrloop.components.run.reporting import reporting

    with reporting(workspace, "dpo", stage="iteration-1"):
        return str(dict[str, str]()["nothing"])


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def be_killed(workspace: str) -> str:
    import os
    import signal

    from attrloop.components.run.reporting import reporting

    with reporting(workspace, "dpo", stage="iteration-1"):
        os.kill(os.getpid(), signal.SIGKILL)
    return ""


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def fail_without_an_event(workspace: str) -> str:
    from attrloop.components.errors import fail

    raise fail(f"{workspace}/config.json", "no such file", "Give the folder of a run")


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def be_killed_without_an_event(workspace: str) -> str:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def keep_books(workspace: str) -> str:
    """As the steps between two stages: does nothing worth showing."""
    return workspace


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def work_once(workspace: str) -> str:
    """As a step does: finishes its artifact, or says that it is there."""
    import tempfile

    from attrloop.components.run.artifact import Artifact
    from attrloop.components.run.reporting import figure, reporting, reused
    from attrloop.components.storage.opening import open_store

    with reporting(workspace, "mine-pairs", stage="iteration-1"):
        artifact = Artifact(open_store(workspace), "iteration-1/pairs", {"from": "nothing"})
        if artifact.manifest is None:
            figure("agreement", 0.75)
            artifact.finish("pairs", {}, [])
        else:
            reused(artifact.path)
    return tempfile.mkdtemp()


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def work_slowly(workspace: str) -> str:
    """Works until there is a file `go`, or for a minute."""
    import time
    from pathlib import Path

    from attrloop.components.run.progress import progress
    from attrloop.components.run.reporting import figure, reporting

    with (
        reporting(workspace, "sample-chains", stage="iteration-1", share="2/3"),
        progress("chains", 4, "listings") as bar,
    ):
        bar.advance()
        figure("a figure with quite a long name", 0.123456789)
        for _ in range(600):
            if Path(workspace, "go").exists():
                break
            time.sleep(0.1)
    return ""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path) -> None:
    """`tmp_path` is a workspace."""
    (tmp_path / layout.CONFIG).write_text("{}")


def compiled(step: Callable[..., dsl.PipelineTask], folder: Path) -> Path:
    """The YAML of a pipeline of one step."""

    @dsl.pipeline(name="one-step")
    def one_step(workspace: str) -> str:
        return step(workspace=workspace).output

    compiler.Compiler().compile(one_step, str(folder / "one.yaml"))
    return folder / "one.yaml"


def run(step: Callable[..., dsl.PipelineTask], folder: Path) -> tuple[str, str]:
    """Runs a pipeline of one step; returns its output and what was shown."""
    shown = io.StringIO()
    output = run_pipeline(
        compiled(step, folder), {"workspace": str(folder)}, folder, PlainConsole(file=shown, width=120)
    )
    return output, shown.getvalue()


def test_bad_input_is_told_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(AttrloopError) as caught:
        run(fail_on_input, tmp_path)
    told = str(caught.value)
    assert told.startswith("annotate failed: 2 problems found:\n")
    assert "labels.jsonl:3 (mug-7): 'stripy' is not a value of pattern. Use one of: solid." in told
    assert "schema.yaml: empty. Add one." in told
    assert "Traceback" not in told and "looking at" not in told
    (log,) = (tmp_path / "logs").iterdir()
    assert told.endswith(f"\n\nThe whole log: {log}\nThe same command again goes on from here.")
    assert "Traceback" in log.read_text() and "looking at the labels" in log.read_text()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (fail_unexpectedly, r"^iteration-1 dpo failed: KeyError: 'nothing'\n\n"),
        (be_killed, r"^iteration-1 dpo failed: it ended without a message \(killed, or out of memory\?\)\n\n"),
        (
            fail_without_an_event,
            r"^fail-without-an-event failed: 1 problem found:\n  - .*: no such file. Give .* run.\n\n",
        ),
        (be_killed_without_an_event, r"^be-killed-without-an-event failed: it ended without a message"),
    ],
)
def test_why_a_step_failed_is_told(step: Callable[..., dsl.PipelineTask], told: str, tmp_path: Path) -> None:
    with pytest.raises(AttrloopError, match=told):
        run(step, tmp_path)


def test_a_failure_of_an_earlier_run_is_not_told_again(tmp_path: Path) -> None:
    for step in (fail_unexpectedly, be_killed):
        with pytest.raises(AttrloopError):
            run(step, tmp_path)
    with pytest.raises(AttrloopError, match=r"^fail-without-an-event failed"):
        run(fail_without_an_event, tmp_path)


def test_a_killed_step_is_shown_as_stopped(tmp_path: Path) -> None:
    shown = io.StringIO()
    with pytest.raises(AttrloopError):
        run_pipeline(compiled(be_killed, tmp_path), {"workspace": str(tmp_path)}, tmp_path, PlainConsole(file=shown))
    assert [line.split()[:3] for line in shown.getvalue().splitlines()] == [["iteration-1", "dpo", "stopped"]]


def test_a_second_run_says_what_it_reuses(tmp_path: Path) -> None:
    _, first = run(work_once, tmp_path)
    _, second = run(work_once, tmp_path)
    assert re.fullmatch(r"iteration-1 mine-pairs +done +\d\.\d s +agreement 0\.75\n", first)
    assert re.fullmatch(r"iteration-1 mine-pairs +reused +\d\.\d s\n", second)


def test_steps_that_keep_the_books_are_not_shown(tmp_path: Path) -> None:
    assert run(keep_books, tmp_path) == (str(tmp_path), "")


def test_nothing_is_left_in_the_temporary_folder_or_the_environment(tmp_path: Path) -> None:
    before = dict(os.environ)
    made, _ = run(work_once, tmp_path)
    assert not Path(made).exists() and not Path(made).parent.exists()
    assert dict(os.environ) == before


def test_the_terminal_shows_the_steps_and_the_log_what_they_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(work_once, tmp_path)
    capsys.readouterr()
    run_pipeline(tmp_path / "one.yaml", {"workspace": str(tmp_path)}, tmp_path, PlainConsole())
    shown, errors = capsys.readouterr()
    assert [line.split()[:3] for line in shown.splitlines()] == [
        ["iteration-1", "mine-pairs", "reused"]
    ] and errors == ""
    assert "reusing iteration-1/pairs" in max((tmp_path / "logs").iterdir()).read_text()


RUN = """
import sys
from pathlib import Path
from attrloop.components.console import PlainConsole
from attrloop.pipelines.local.runner import run_pipeline
folder = Path(sys.argv[1])
run_pipeline(folder / "one.yaml", {"workspace": str(folder)}, folder, PlainConsole())
"""


class Terminal:
    """A run on a terminal of 80 columns, and all that it has written there."""

    def __init__(self, folder: Path) -> None:
        self.master, end = pty.openpty()
        environment = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder)],
            stdin=end,
            stdout=end,
            stderr=end,
            env=environment,
            start_new_session=True,
        )
        os.close(end)
        self.text = ""

    def read(self, until: str = "") -> str:
        """Reads until a text has come, by default until the run has ended."""
        while not until or until not in self.text:
            try:
                self.text += os.read(self.master, 4096).decode()
            except OSError:  # closed
                break
        return self.text


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    compiled(work_slowly, tmp_path)
    return Terminal(tmp_path)


def lines_of(text: str) -> list[str]:
    """What a terminal was sent, line by line, without colours and movements of the cursor."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)) if line.strip()]


def test_a_terminal_shows_a_step_on_one_line_while_it_runs_and_when_it_has_ended(
    tmp_path: Path, terminal: Terminal
) -> None:
    running = lines_of(terminal.read(until=" 25%"))[-1]
    (tmp_path / "go").touch()
    *_, last = lines_of(terminal.read())
    assert terminal.process.wait() == 0
    assert re.match(r"iteration-1 sample-chains 2/3 running +\d\.\d s  25%", running)
    assert re.match(r"iteration-1 sample-chains 2/3 done +\d\.\d s +a figure", last)
    assert all(len(line) <= 80 for line in lines_of(terminal.text)) and last.endswith("…")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_the_cursor_visible(number: signal.Signals, terminal: Terminal) -> None:
    terminal.read(until=" 25%")
    os.killpg(terminal.process.pid, number)
    text = terminal.read()
    assert terminal.process.wait() != 0
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")
    if number == signal.SIGINT:
        assert any(re.match(r"iteration-1 sample-chains 2/3 (failed|stopped) ", line) for line in lines_of(text))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_not_installed_is_refused_before_anything_runs(tmp_path: Path) -> None:
    data = DataConfig(catalogue_schema="schema.yaml", listings="listings.jsonl")
    config = RunConfig(data=data, model=ModelConfig(base="base"), sample=SampleConfig(engine="vllm"))
    with pytest.raises(InputError, match="vllm is not installed here"):
        run_local(config, tmp_path / "run", PlainConsole())
    assert not (tmp_path / "run").exists()
    with pytest.raises(AttrloopError, match="preflight failed"):  # which is of no concern to a run that only labels
        run_local(config, tmp_path / "run", PlainConsole(), name="annotate")


@pytest.mark.slow
def test_the_shipped_pipeline_stops_at_preflight_and_begins_again_when_told(tmp_path: Path) -> None:
    data = DataConfig(catalogue_schema=str(tmp_path / "absent.yaml"), listings=str(tmp_path / "absent.jsonl"))
    config = RunConfig(data=data, model=ModelConfig(base=str(tmp_path)))
    workspace, shown = tmp_path / "runs" / "run", io.StringIO()
    for fresh in (False, True):
        with pytest.raises(
            AttrloopError, match=r"preflight failed: \d+ problems found:\n(.*\n)*.*absent.yaml: no such schema file"
        ):
            run_local(config, workspace, PlainConsole(file=shown, width=300), fresh)
    assert [line.split()[0] for line in shown.getvalue().splitlines()] == ["preflight", "The", "preflight"]
    (aside,) = (path for path in workspace.parent.iterdir() if ".old-" in path.name)
    assert str(aside) in shown.getvalue() and (aside / "config.json").is_file()
    assert RunConfig.model_validate_json((workspace / "config.json").read_text()) == config
