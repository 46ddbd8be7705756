import json
import shutil
from pathlib import Path

import pytest
from kfp import dsl

from attrloop.components.evaluate_test.evaluate_all import evaluate_all
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from tests.evaluated import with_adapter
from tests.tiny import qwen2_5_vl


@pytest.fixture
def ws(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A run with a tiny real model, labels and a finished adapter, beside an MLflow store without a champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return with_adapter(tmp_path, qwen2_5_vl(tmp_path / "base"), batch_size=4)


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
