"""The pipelines beside the loop: what Kubeflow gets, and runs of them through kfp.local."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from mlflow import MlflowClient

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import Label
from attrloop.components.console import PlainConsole
from attrloop.components.fetch_adapter.fetch import fetch
from attrloop.components.predict.predict import predict
from attrloop.components.predict.stream import prepare
from attrloop.components.register_adapter.versions import log_model, model_config, register_version
from attrloop.components.run.config import AnnotateConfig, LoopConfig, RunConfig
from attrloop.components.run.events import read_events
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.opening import open_store
from attrloop.components.tracking.server import connect, experiment_id
from attrloop.pipelines.definitions.compile import NAMES, Name, compile_to
from attrloop.pipelines.local.runner import run_local
from tests.small import COLOURS

BESIDE: tuple[Name, ...] = ("annotate", "continue", "predict")
NAME = "attribute-adapter"


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Name], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("compiled")
    for name in NAMES:
        compile_to(folder / f"{name}.yaml", name)
    return lambda name: next(yaml.safe_load_all((folder / f"{name}.yaml").read_text()))


def steps(spec: dict[str, Any]) -> set[str]:
    """The components that compute, without the numbers that distinguish their uses."""
    return {
        name.removeprefix("comp-").rstrip("-0123456789")
        for name, entry in spec["components"].items()
        if "executorLabel" in entry
    }


def dags(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["root"]["dag"], *(entry["dag"] for entry in spec["components"].values() if "dag" in entry)]


def test_they_are_made_of_the_loops_components(spec_of: Callable[[Name], dict[str, Any]]) -> None:
    loop = steps(spec_of("loop"))
    assert steps(spec_of("annotate")) == {"preflight", "annotate"}
    assert steps(spec_of("continue")) == loop - {"sft"} | {"fetch-adapter"}
    assert steps(spec_of("predict")) == {
        "prepare-prediction",
        "fetch-adapter",
        "share-out-catalogue",
        "predict",
        "review-queue",
    }


def test_continuing_is_the_loop_with_the_adapter_fetched_in_place_of_sft(
    spec_of: Callable[[Name], dict[str, Any]],
) -> None:
    loop, further = (spec_of(name)["root"]["dag"]["tasks"] for name in ("loop", "continue"))
    assert set(further) == set(loop) - {"sft"} | {"fetch-adapter"}
    for task in ("evaluate-test", "register-adapter", "promote", "report"):
        assert sorted(further[task]["dependentTasks"]) == sorted(loop[task]["dependentTasks"])
    assert "fetch-adapter" in further["annotate"]["dependentTasks"], (
        "a missing adapter is known before labels are paid for"
    )


@pytest.mark.parametrize("name", BESIDE)
def test_no_step_is_skipped_by_the_platforms_cache(spec_of: Callable[[Name], dict[str, Any]], name: Name) -> None:
    tasks = {
        key: task
        for dag in dags(spec_of(name))
        for key, task in dag["tasks"].items()
        if "componentRef" in task and "iteratorPolicy" not in task
    }
    cached = {
        key
        for key, task in tasks.items()
        if task.get("cachingOptions", {}).get("enableCache") and not key.startswith(("condition", "for-loop"))
    }
    assert cached == set()


@pytest.mark.parametrize("name", BESIDE)
def test_every_parameter_is_described_and_has_an_effect(spec_of: Callable[[Name], dict[str, Any]], name: Name) -> None:
    spec = spec_of(name)
    offered = spec["root"]["inputDefinitions"]["parameters"]
    assert [key for key, about in offered.items() if not about.get("description")] == []
    own = {key for key in offered if not key.startswith(("cpu_", "gpu_", "secret_"))}
    entries = [
        entry for task in spec["root"]["dag"]["tasks"].values() for entry in task["inputs"]["parameters"].values()
    ]
    assert own <= {entry.get("componentInputParameter") for entry in entries}
    first = spec["root"]["dag"]["tasks"]["prepare-prediction" if name == "predict" else "preflight"]
    assert first["inputs"]["parameters"]["overrides"] == {"componentInputParameter": "overrides"}


def test_workers_read_nothing_but_their_own_inputs(spec_of: Callable[[Name], dict[str, Any]]) -> None:
    """kfp.local replaces a parameter of another task that is read inside a ParallelFor body by the loop's item."""
    bodies = [
        entry["dag"] for name, entry in spec_of("predict")["components"].items() if name.startswith("comp-for-loop")
    ]
    (task,) = bodies[0]["tasks"].values()
    assert len(bodies) == 1 and not any(
        "taskOutputParameter" in entry for entry in task["inputs"]["parameters"].values()
    )


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(name: Name, config: RunConfig, workspace: Path, **arguments: Any) -> str:
    return run_local(config, workspace, PlainConsole(quiet=True), name=name, **arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
def test_a_catalogue_is_predicted_by_workers_as_by_one(trained: Callable[[str], Path], tmp_path: Path) -> None:
    source = trained("qwen2_5_vl") / "run"
    config = RunConfig.model_validate_json((source / "config.json").read_text())
    workspace, adapter = tmp_path / "prediction", str(source / "sft" / "adapter")
    assert run("predict", config, workspace, adapter=adapter, workers_count=2, review_per_attribute=3) == "review"
    alone = prepare(str(source / "config.json"), str(tmp_path / "alone"))
    predict(alone, fetch(alone, adapter))
    made, wanted = (pl.read_parquet(Path(folder) / "predictions" / "shard-*.parquet") for folder in (workspace, alone))
    assert made.equals(wanted) and made.height == 20
    assert read_manifest(Workspace.open(str(workspace)).store, "start").made_from["origin"] == adapter
    tasks = json.loads((workspace / "review" / "one-value" / "tasks.json").read_text())
    parts = Counter(task["data"]["part"] for task in tasks)
    assert parts["uncertain"] == 6 and parts["drawn"] > 0
    (log,) = (workspace / "logs").iterdir()
    assert "share" in log.read_text()
    steps = ["prepare-prediction", "fetch-adapter", "predict 1/2", "predict 2/2", "review-queue"]
    assert [(event.label, event.state) for event in read_events(open_store(workspace))] == [(x, "done") for x in steps]


def gold(config: RunConfig, path: Path) -> RunConfig:
    """The config with as many labels as it wants for each split; two listings of each vertical have none."""
    ws = Workspace.create(str(path.parent / "unused"), config)
    split = dict.fromkeys(range(4), "train") | dict.fromkeys((4, 5), "validation") | dict.fromkeys((6, 7), "test")
    rows = [
        Label.model_validate(
            {
                "listing": key,
                "attribute": "colour",
                "value": list(COLOURS)[number % 3],
                "rationale": "I see it.",
                "split": split[number],
            }
        )
        for key in ws.listings
        if (number := int(key.rsplit("-", 1)[1])) in split
    ]
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    sections = {
        "data": config.data.model_copy(update={"labels": str(path)}),
        "annotate": AnnotateConfig(train_per_vertical=4, validation_per_vertical=2, test_per_vertical=2),
        "loop": LoopConfig(iterations=1, min_gain=-1.0),
    }
    return config.model_copy(update=sections)


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
def test_labels_alone_need_no_loop(trained: Callable[[str], Path], tmp_path: Path) -> None:
    source = RunConfig.model_validate_json((trained("qwen2_5_vl") / "run" / "config.json").read_text())
    config = gold(source, tmp_path / "labels.jsonl")
    overrides = '{"seed": 4, "name": "other"}'
    assert run("annotate", config, tmp_path / "labels", overrides=overrides) == str(tmp_path / "labels")
    ws = Workspace.open(str(tmp_path / "labels"))
    assert (ws.config.seed, ws.config.name, ws.config.loop.iterations) == (4, "other", 0)
    labels = read_labels(ws.store.file("annotate/labels.jsonl"), ws.schema, ws.listings)
    assert len(labels) == 16 and {label.split for label in labels} == {"train", "validation", "test"}
    assert {path.parent.name for path in (tmp_path / "labels").glob("*/manifest.json")} == {
        "preflight",
        "splits",
        "annotate",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
def test_the_loop_goes_on_from_the_champion(trained: Callable[[str], Path], tmp_path: Path) -> None:
    source = Workspace.open(str(trained("qwen2_5_vl") / "run"))
    config, uri = gold(source.config, tmp_path / "labels.jsonl"), f"sqlite:///{tmp_path}/mlflow.db"
    client = connect(uri)
    first = client.create_run(experiment_id(client, uri, "attrloop")).info.run_id
    adapter = source.store.folder("sft/adapter")
    model = log_model(client, uri, first, adapter, model_config(source))
    assert (
        register_version(
            client, uri, NAME, model, {"adapter_digest": client.get_logged_model(model).tags["adapter_digest"]}
        )
        == 1
    )
    client.set_registered_model_alias(NAME, "champion", "1")
    workspace = tmp_path / "weekly"
    state = LoopState.model_validate_json(run("continue", config, workspace))
    assert [outcome.stage for outcome in state.outcomes] == ["base", "start", "iteration-1"]
    assert read_manifest(Workspace.open(str(workspace)).store, "start").made_from["origin"] == f"models:/{NAME}/1"
    assert {path.name for path in (workspace / "evaluate" / "test").iterdir()} == {"base", "start", "iteration-1"}
    registered = json.loads((workspace / "register" / "result.json").read_text())
    decided = json.loads((workspace / "promote" / "result.json").read_text())
    assert registered["stage"] == state.best.stage and decided["action"] in ("promoted", "refused")
    assert (workspace / "report.html").is_file() and json.loads((workspace / "summary.json").read_text())[
        "best"
    ] == state.best.stage
    version = MlflowClient(uri, uri).get_model_version(NAME, str(registered["model_version"]))
    if state.best.stage == "iteration-1" and state.best.adapter != "start/adapter":
        assert version.tags["parent_version"] == "1", "a version knows which one it came from"
    else:
        assert str(version.version) == "1", "an adapter that nothing improved is not registered twice"
