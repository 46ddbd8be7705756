import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.gold.left_out import left_out
from attrloop.components.register_adapter.register import register
from attrloop.components.run.config import TrackingConfig
from attrloop.components.tracking.server import fluent
from tests.tracked import Run, evaluate, give_history, make_run, train

NAME = "attribute-adapter"


def client_of(runs: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{runs}/mlflow.db", f"sqlite:///{runs}/mlflow.db")


def runs_by_stage(client: MlflowClient, experiment: str = "attrloop") -> dict[str, list[MlflowRun]]:
    found: dict[str, list[MlflowRun]] = {}
    for run in client.search_runs([client.get_experiment_by_name(experiment).experiment_id]):
        found.setdefault(run.data.tags["attrloop.stage"], []).append(run)
    return found


def figures(run: Run, split: str, stage: str) -> dict:
    return json.loads(run.ws.store.read(f"evaluate/{split}/{stage}/metrics.json"))


def test_a_loop_is_one_parent_with_a_child_per_stage(runs: Path) -> None:
    run = make_run(runs)
    register(run.uri, run.state)
    found = runs_by_stage(client_of(runs))
    assert {stage: len(made) for stage, made in found.items()} == {"loop": 1, "base": 1, "sft": 1, "iteration-1": 1}
    parent = found.pop("loop")[0]
    assert parent.info.run_name == "run" and "| Café mug |" in parent.data.tags["mlflow.note.content"]
    assert parent.data.params["sample.chains"] == "8" and parent.data.tags["model_version"] == f"{NAME} 1"
    assert parent.inputs.dataset_inputs[0].dataset.digest == run.ws.data_digest
    for stage, (child,) in found.items():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id and child.info.run_name == stage
    assert {made.info.status for made in (parent, *(child for (child,) in found.values()))} == {"FINISHED"}
    assert found["iteration-1"][0].info.start_time >= found["sft"][0].info.end_time > found["sft"][0].info.start_time


def test_the_metrics_of_a_stage_are_those_of_its_evaluation(runs: Path) -> None:
    run = make_run(runs)
    register(run.uri, run.state)
    child = runs_by_stage(client_of(runs))["iteration-1"][0]
    test, validation = figures(run, "test", "iteration-1"), figures(run, "validation", "iteration-1")
    assert test["macro_accuracy"] != validation["macro_accuracy"]
    metrics = child.data.metrics
    assert metrics["macro_accuracy"] == metrics["test/macro_accuracy"] == pytest.approx(test["macro_accuracy"])
    assert metrics["validation/macro_accuracy"] == pytest.approx(validation["macro_accuracy"])
    assert metrics["accuracy/cafe-mug"] == pytest.approx(test["verticals"]["Café mug"]["accuracy"])
    assert metrics["validation_accuracy/cafe-mug"] == pytest.approx(validation["verticals"]["Café mug"]["accuracy"])
    assert metrics["test/off_list_rate"] == test["off_list_rate"]
    assert metrics["effort/dpo_minutes"] == 0.5
    history = client_of(runs).get_metric_history(child.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(k, 2.0 / k) for k in range(5, 55, 5)]


def test_the_parent_shows_accuracy_over_the_stages_and_ends_with_the_kept_adapter(runs: Path) -> None:
    run = make_run(runs, accuracy={"base": 0.3, "sft": 0.6, "iteration-1": 0.85, "iteration-2": 0.7})
    register(run.uri, run.state)
    client = client_of(runs)
    parent = runs_by_stage(client)["loop"][0]
    history = client.get_metric_history(parent.info.run_id, "accuracy/rug")
    stages = ("base", "sft", "iteration-1", "iteration-2", "iteration-1")
    assert [(point.step, point.value) for point in history] == [
        (k, figures(run, "test", s)["verticals"]["rug"]["accuracy"]) for k, s in enumerate(stages)
    ]
    kept = figures(run, "test", "iteration-1")
    assert kept["macro_accuracy"] > figures(run, "test", "iteration-2")["macro_accuracy"]
    shown = parent.data.metrics
    assert shown["macro_accuracy"] == shown["best/macro_accuracy"] == pytest.approx(kept["macro_accuracy"])
    assert shown["accuracy/rug"] == pytest.approx(kept["verticals"]["rug"]["accuracy"])
    assert shown["test/macro_f1"] == pytest.approx(kept["macro_f1"])
    assert parent.data.tags["best_stage"] == "iteration-1"


def test_without_a_test_evaluation_the_headline_is_validation(runs: Path) -> None:
    run = make_run(runs)
    run.ws.store.remove("evaluate/test/base")
    register(run.uri, run.state)
    metrics = runs_by_stage(client_of(runs))["sft"][0].data.metrics
    assert metrics["accuracy/rug"] == metrics["validation_accuracy/rug"] and "test/macro_accuracy" not in metrics


def test_the_best_adapter_becomes_a_candidate_that_knows_its_ancestry(runs: Path) -> None:
    run = make_run(runs)
    number = register(run.uri, run.state)
    client = client_of(runs)
    made = client.get_model_version_by_alias(NAME, "candidate")
    assert made.version == int(number) == 1
    found = runs_by_stage(client)
    sft, best = found["sft"][0], found["iteration-1"][0]
    assert made.tags["stage"] == "iteration-1" and made.tags["run_id"] == best.info.run_id == made.run_id
    assert (
        made.tags["parent_adapter"] == "sft/adapter"
        and made.tags["parent_adapter_digest"] == sft.data.tags["adapter_digest"]
    )
    assert sft.data.tags["parent_adapter"] == "base tiny"
    assert (
        made.tags["data_digest"] == run.ws.data_digest
        and made.tags["config_digest"] == run.ws.config.digest()
        and made.tags["code_digest"]
    )
    assert float(made.tags["test_macro_accuracy"]) == pytest.approx(
        figures(run, "test", "iteration-1")["macro_accuracy"], abs=1e-4
    )
    assert json.loads(run.ws.store.read("register/result.json"))["model_version"] == 1


def test_a_parent_that_is_a_registered_version_is_named_by_its_number(runs: Path) -> None:
    first = make_run(runs, "first", {"base": 0.3, "sft": 0.6})
    second = make_run(runs, "second", {"base": 0.3, "sft": 0.6, "iteration-1": 0.9})
    assert register(first.uri, first.state) == "1"
    assert register(second.uri, second.state) == "2"
    assert client_of(runs).get_model_version(NAME, "2").tags["parent_version"] == "1"


def test_nothing_that_unpickles_is_registered(runs: Path) -> None:
    run = make_run(runs)
    register(run.uri, run.state)
    files = [file.name for file in (runs / "mlartifacts").rglob("*") if file.is_file()]
    assert "adapter_model.safetensors" in files and "model.py" in files
    assert not [name for name in files if name.endswith((".bin", ".pkl", ".pt", ".pickle"))]


def test_an_adapter_without_safetensors_is_refused(runs: Path) -> None:
    run = make_run(runs)
    Path(run.uri, "iteration-1/dpo/adapter/adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="safetensors"):
        register(run.uri, run.state)


def test_stages_that_were_not_evaluated_are_an_error_before_anything_is_tracked(runs: Path) -> None:
    run = make_run(runs)
    run.ws.store.remove("evaluate")
    with pytest.raises(InputError, match="evaluate/validation/base: this stage was not evaluated"):
        register(run.uri, run.state)
    assert client_of(runs).get_experiment_by_name("attrloop") is None


def test_registering_again_makes_nothing_new(runs: Path) -> None:
    run = make_run(runs)
    assert register(run.uri, run.state) == "1"
    shutil.rmtree(Path(run.uri, "register"))
    assert register(run.uri, run.state) == "1"
    client = client_of(runs)
    assert all(len(made) == 1 for made in runs_by_stage(client).values())
    assert len(client.search_model_versions(f"name='{NAME}'")) == 1
    assert len(client.search_logged_models([client.get_experiment_by_name("attrloop").experiment_id])) == 1


def test_a_loop_evaluated_anew_has_runs_of_its_own(runs: Path) -> None:
    run = make_run(runs)
    register(run.uri, run.state)
    evaluate(run.ws, "sft", "test", run.ws.labels("test"), 0.4, 1)
    assert register(run.uri, run.state) == "1", "the adapter is the same, so is its version"
    found = runs_by_stage(client_of(runs))
    assert {len(made) for made in found.values()} == {2}
    now = figures(run, "test", "sft")["macro_accuracy"]
    assert (
        found["sft"][0].data.metrics["macro_accuracy"]
        == pytest.approx(now)
        != found["sft"][1].data.metrics["macro_accuracy"]
    )


_KILLED = """
import os, signal, sys
import mlflow, sqlalchemy  # once, before the processes that are killed are forked
from attrloop.components.register_adapter.register import register

def register_until(commits):
    left = commits

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "commit")
    def count(connection):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    register(sys.argv[1], sys.argv[2])

for commits in sys.argv[3:]:
    if not (child := os.fork()):
        register_until(int(commits))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, os.path.exists(f"{sys.argv[1]}/register/manifest.json"))
"""


@pytest.mark.slow
def test_killed_at_any_write_it_ends_as_if_undisturbed(runs: Path) -> None:
    run = make_run(runs)
    commits = ("12", "19", "27", "36", "46", "57")  # each start gets further than the one before
    command = [sys.executable, "-c", _KILLED, run.uri, run.state, *commits]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ends = [line.split() for line in done.stdout.splitlines() if line.startswith(("0 ", "-9 "))]
    assert len(ends) == len(commits), done.stderr
    killed = sum(code == "-9" for code, _ in ends)
    assert all(finished == "False" for code, finished in ends if code == "-9")
    assert killed >= 4
    assert register(run.uri, run.state) == "1"
    client = client_of(runs)
    found = runs_by_stage(client)
    assert {stage: len(made) for stage, made in found.items()} == {"loop": 1, "base": 1, "sft": 1, "iteration-1": 1}
    assert len(client.search_model_versions(f"name='{NAME}'")) == 1
    assert len(client.get_metric_history(found["sft"][0].info.run_id, "train/loss")) == 10
    assert {made[0].info.status for made in found.values()} == {"FINISHED"}


@pytest.mark.slow
def test_a_server_that_is_away_is_an_error_with_a_remedy(runs: Path) -> None:
    run = make_run(runs, tracking=TrackingConfig(uri="http://127.0.0.1:9"))
    with pytest.raises(AttrloopError, match=r"127\.0\.0\.1:9.*tracking\.uri"):
        register(run.uri, run.state)


@pytest.mark.slow
def test_on_a_server_it_joins_the_run_that_an_orchestrator_made(
    runs: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(runs, seed=5)
    client = MlflowClient(server, server)
    experiment = client.create_experiment("kubeflow")
    outer = client.create_run(experiment, run_name="pipeline").info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", outer)
    number = register(run.uri, run.state)
    shutil.rmtree(Path(run.uri, "register"))
    assert register(run.uri, run.state) == number
    found = runs_by_stage(client, "kubeflow")
    assert {stage: len(made) for stage, made in found.items()} == {"loop": 1, "base": 1, "sft": 1, "iteration-1": 1}
    assert found["loop"][0].info.run_id == outer and found["loop"][0].info.status == "RUNNING", (
        "the orchestrator ends it"
    )
    assert found["sft"][0].data.tags["mlflow.parentRunId"] == outer
    with fluent(server):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}@candidate"))
    assert (folder / "artifacts/adapter/adapter_model.safetensors").read_bytes() == run.ws.store.read(
        "iteration-1/dpo/adapter/adapter_model.safetensors"
    )


def test_gold_that_is_left_out_and_unknown_ancestors_are_in_mlflow(runs: Path) -> None:
    run = make_run(runs, accuracy={"base": 0.3, "start": 0.6, "iteration-1": 0.8})
    give_history(run.ws, {"trained": ["rug-0", "rug-1"], "chosen": ["rug-3"]}, ("models:/m/3",))
    train(run.ws, "iteration-1/dpo", "", 0, "start/adapter")
    left_out(run.ws)
    register(run.uri, run.state)
    client = client_of(runs)
    version = client.get_model_version("attribute-adapter", "1")
    parent = client.get_run(json.loads(run.ws.store.read("register/result.json"))["parent_run"])
    told = "2 of 45 gold listings are left out (1 already trained on, 1 already used to choose): rug-1, rug-3"
    for tags in (version.tags, parent.data.tags):
        assert tags["left_out.test"] == told and tags["unknown_history"] == "models:/m/3"
    assert (parent.data.metrics["test/left_out"], parent.data.metrics["validation/left_out"]) == (2, 1)
    assert "left-out/listings.jsonl" in {file.path for file in client.list_artifacts(parent.info.run_id, "left-out")}
