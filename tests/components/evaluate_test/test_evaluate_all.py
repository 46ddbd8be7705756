import json
import shutil
from pathlib import Path

import pytest
from kfp import dsl

from attrloop.components.evaluate_test.evaluate_all import evaluate_all
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, EvaluateConfig, ModelConfig, RunConfig
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from tests.evaluated import catalogue, labels
from tests.tiny import qwen2_5_vl


@pytest.fixture
def ws(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A run with a tiny real model, labels and a finished adapter, beside an MLflow store without a champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    listings, truth = catalogue(tmp_path, 2, 6)
    config = RunConfig(
        data=DataConfig(catalogue_schema=str(tmp_path / "schema.yaml"), listings=str(tmp_path / "listings.jsonl")),
        model=ModelConfig(base=str(qwen2_5_vl(tmp_path / "base")), max_pixels=64 * 64),
        evaluate=EvaluateConfig(batch_size=4, max_new_tokens=5, bootstrap=50),
    )
    ws = Workspace.create(str(tmp_path / "run"), config)
    labels(ws, listings, truth, 2)
    vlm = Vlm.open(ws)
    vlm.add_adapter(0)
    artifact = Artifact(ws.store, "sft", {})
    vlm.model.save_pretrained(artifact.folder / "adapter")
    artifact.finish("adapter", {"seconds": 1.0}, ["adapter"])
    return ws


def test_every_stage_is_evaluated_on_test_and_the_best_one_is_shown(ws: Workspace) -> None:
    outcomes = Outcome(stage="base", adapter="", macro=0.9), Outcome(stage="sft", adapter="sft/adapter", macro=0.4)
    state = LoopState(outcomes=outcomes)
    metrics, confusion = dsl.Metrics(), dsl.ClassificationMetrics()
    evaluate_all(ws.store.root, state.model_dump_json(), metrics, confusion)
    assert LoopState.model_validate_json(ws.store.read("state.json")) == state
    found = {s: json.loads(ws.store.read(f"evaluate/test/{s}/metrics.json")) for s in ("base", "sft")}
    assert {stage: scores["count"] for stage, scores in found.items()} == {"base": 8, "sft": 8}
    assert metrics.metadata["macro_accuracy"] == found["sft"]["macro_accuracy"], "the base is not a candidate"
    assert set(confusion.metadata) == {"confusionMatrix", "attribute"}
