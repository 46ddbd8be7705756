"""Runs through kfp.local: what a person sees of them, and what is said when a step fails."""

import importlib.util
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import compiler, dsl
from rich.console import Console

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.config import DataConfig, ModelConfig, RunConfig, SampleConfig
from attrloop.pipelines.local.runner import run_local, run_pipeline


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def fail_on_input(workspace: str) -> str:
    from attrloop.components.errors import InputError, Problem

    print("looking at the labels")
    raise InputError(
        [
            Problem("labels.jsonl:3 (mug-7)", "'stripy' is not a value of pattern", "Use one of: solid"),
            Problem("schema.yaml", "empty", "Add one"),
        ]
    )


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def fail_unexpectedly(workspace: str) -> str:
    return {}["nothing"]  # type: ignore[index]


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def be_killed(workspace: str) -> str:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def work_once(workspace: str) -> str:
    """As a component does: finishes its stage, or says that it is there."""
    import logging
    import tempfile

    from attrloop.components.run.artifact import Artifact
    from attrloop.components.storage.store import open_store

    stage = Artifact(open_store(workspace), "pairs", {"from": "nothing"})
    if stage.manifest is None:
        stage.finish("pairs", {}, [])
    else:
        logging.info("reusing pairs")
    return tempfile.mkdtemp()


def run(step: Callable[..., dsl.PipelineTask], folder: Path) -> tuple[str, str]:
    """Runs a pipeline of one step; returns its output and what was shown."""

    @dsl.pipeline(name="one-step")
    def one_step(workspace: str) -> str:
        return step(workspace=workspace).output

    compiler.Compiler().compile(one_step, str(folder / "one.yaml"))
    shown = io.StringIO()
    output = run_pipeline(folder / "one.yaml", {"workspace": str(folder)}, folder, Console(file=shown, width=120))
    return output, shown.getvalue()


def test_bad_input_is_told_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(AttrloopError) as caught:
        run(fail_on_input, tmp_path)
    told = str(caught.value)
    assert "fail-on-input failed: 2 problems found:" in told
    assert "labels.jsonl:3 (mug-7): 'stripy' is not a value of pattern. Use one of: solid." in told
    assert "schema.yaml: empty. Add one." in told
    assert "Traceback" not in told and "looking at" not in told
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in told
    assert "Traceback" in log.read_text() and "looking at the labels" in log.read_text()


def test_an_unexpected_error_names_its_kind(tmp_path: Path) -> None:
    with pytest.raises(AttrloopError, match=r"fail-unexpectedly failed: KeyError: 'nothing'\n"):
        run(fail_unexpectedly, tmp_path)


def test_a_killed_step_is_told_from_a_failed_one(tmp_path: Path) -> None:
    with pytest.raises(AttrloopError, match=r"be-killed failed: .*killed, or out of memory"):
        run(be_killed, tmp_path)


def test_a_second_run_says_what_it_reuses(tmp_path: Path) -> None:
    _, first = run(work_once, tmp_path)
    _, second = run(work_once, tmp_path)
    assert first.split()[:2] == ["work-once", "done"]
    assert second.split()[:2] == ["work-once", "reused"]


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
    run_pipeline(tmp_path / "one.yaml", {"workspace": str(tmp_path)}, tmp_path, Console())
    shown, errors = capsys.readouterr()
    assert [line.split()[:2] for line in shown.splitlines()] == [["work-once", "reused"]] and errors == ""
    assert "reusing pairs" in max((tmp_path / "logs").iterdir()).read_text()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_not_installed_is_refused_before_anything_runs(tmp_path: Path) -> None:
    data = DataConfig(catalogue_schema="schema.yaml", listings="listings.jsonl")
    config = RunConfig(data=data, model=ModelConfig(base="base"), sample=SampleConfig(engine="vllm"))
    with pytest.raises(InputError, match="vLLM is not installed here"):
        run_local(config, tmp_path / "run", Console())
    assert not (tmp_path / "run").exists()


def test_the_shipped_pipeline_stops_at_preflight_and_begins_again_when_told(tmp_path: Path) -> None:
    data = DataConfig(catalogue_schema=str(tmp_path / "absent.yaml"), listings=str(tmp_path / "absent.jsonl"))
    config = RunConfig(data=data, model=ModelConfig(base=str(tmp_path)))
    workspace, shown = tmp_path / "runs" / "run", io.StringIO()
    for fresh in (False, True):
        with pytest.raises(
            AttrloopError, match=r"preflight failed: \d+ problems found:\n(.*\n)*.*absent.yaml: no such schema file"
        ):
            run_local(config, workspace, Console(file=shown, width=300), fresh)
    assert [line.split()[0] for line in shown.getvalue().splitlines()] == ["preflight", "The", "preflight"]
    (aside,) = (path for path in workspace.parent.iterdir() if ".old-" in path.name)
    assert str(aside) in shown.getvalue() and (aside / "config.json").is_file()
    assert RunConfig.model_validate_json((workspace / "config.json").read_text()) == config
