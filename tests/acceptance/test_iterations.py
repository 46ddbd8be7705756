"""The compiled pipeline, run by kfp.local for several numbers of iterations: MLflow has the best adapter of each."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient, artifacts
from mlflow.entities import Run

from attrloop.components.tracking.server import connect, fluent
from tests.acceptance.conftest import Done
from tests.acceptance.world import finished

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def none(run_of: Callable[..., Done]) -> Done:
    return run_of(0)


@pytest.fixture(scope="module")
def one(run_of: Callable[..., Done], none: Done) -> Done:
    return run_of(1, like=none)


@pytest.fixture(scope="module")
def three(run_of: Callable[..., Done], one: Done) -> Done:
    return run_of(3, like=one)


@pytest.fixture(scope="module")
def stopped(run_of: Callable[..., Done], one: Done) -> Done:
    """A run that may have three iterations, of which each must gain all there is to gain."""
    return run_of(3, min_gain=1.0, like=one)


def tracked(done: Done) -> tuple[MlflowClient, str, dict[str, Run]]:
    """The tracking store's client and URI, and the runs of the stages by their names."""
    uri = f"sqlite:///{done.workspace.parent}/mlflow.db"
    client = connect(uri)
    (experiment,) = (found for found in client.search_experiments() if found.name == "attrloop-demo")
    runs = client.search_runs([experiment.experiment_id])
    return client, uri, {run.data.tags["attrloop.stage"]: run for run in runs}


def expect(done: Done, stages: list[str]) -> None:
    """The run has these stages, and registers the one that MLflow's metrics name as the best of them."""
    client, uri, runs = tracked(done)
    assert [outcome.stage for outcome in done.state.outcomes] == stages
    assert set(runs) == {"loop", *stages}
    macros = {stage: runs[stage].data.metrics["validation/macro_accuracy"] for stage in stages}
    assert macros == pytest.approx({outcome.stage: outcome.macro for outcome in done.state.outcomes})
    best = max(stages[1:], key=lambda stage: macros[stage])  # the first of those that are equal
    assert done.state.best.stage == best
    summary = json.loads((done.workspace / "summary.json").read_text())
    assert summary["best"] == best and [stage["name"] for stage in summary["stages"]] == stages
    version = client.get_model_version_by_alias("demo-attribute-adapter", "candidate")
    assert version.tags["stage"] == best and int(version.version) == summary["model_version"]
    assert version.run_id == runs[best].info.run_id
    with fluent(uri):
        folder = Path(artifacts.download_artifacts(f"models:/demo-attribute-adapter/{version.version}"))
    (registered,) = folder.rglob("adapter_model.safetensors")
    adapter = "sft/adapter" if best == "sft" else f"{best}/dpo/adapter"
    assert registered.read_bytes() == (done.workspace / adapter / "adapter_model.safetensors").read_bytes()


def test_no_iteration_registers_what_sft_has_made(none: Done) -> None:
    expect(none, ["base", "sft"])
    assert not list(none.workspace.glob("iteration-*"))


def test_one_iteration_registers_the_better_of_two(one: Done) -> None:
    expect(one, ["base", "sft", "iteration-1"])


def test_three_iterations_register_the_best_of_four(three: Done) -> None:
    expect(three, ["base", "sft", "iteration-1", "iteration-2", "iteration-3"])


def test_an_early_stop_leaves_the_remaining_iterations_out(stopped: Done) -> None:
    expect(stopped, ["base", "sft", "iteration-1"])
    assert stopped.state.stop and not (stopped.workspace / "iteration-2").exists()


def test_each_iteration_is_made_from_the_one_before(three: Done) -> None:
    manifests = {
        stage: json.loads((three.workspace / stage / "manifest.json").read_text())
        for stage in finished(three.workspace)
    }
    previous = "sft"
    for k in (1, 2, 3):
        step = f"iteration-{k}"
        assert manifests[f"{step}/pairs"]["counts"]["pairs"] > 0, "a loop without pairs would prove nothing"
        assert (
            manifests[f"{step}/chains"]["made_from"]["adapter"]
            == manifests[f"{step}/dpo"]["made_from"]["adapter"]
            == manifests[previous]["digest"]
        )
        previous = f"{step}/dpo"


def test_what_a_shorter_run_finished_is_not_done_again(none: Done, one: Done, three: Done) -> None:
    for shorter, longer in ((none, one), (one, three)):
        digests = (
            {stage: (run.workspace / stage / "manifest.json").read_text() for stage in finished(run.workspace)}
            for run in (shorter, longer)
        )
        before, after = digests
        kept = {stage for stage in before if not stage.startswith(("register", "promote"))}
        assert kept and {stage: before[stage] for stage in kept} == {stage: after[stage] for stage in kept}, (
            "a manifest tells the seconds that the work took"
        )
