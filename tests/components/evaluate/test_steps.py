"""What Kubeflow's pages show of an evaluation, with KFP's own artifacts as the sink."""

import json
from pathlib import Path
from typing import Any

from kfp import dsl

from attrloop.components.evaluate.steps import show
from attrloop.components.storage.store import open_store


def attribute(accuracy: float, matrix: list[list[int]]) -> dict[str, Any]:
    return {"accuracy": accuracy, "confusion": {"values": ["red", "blue", "off-list"], "matrix": matrix}}


def shown(folder: Path, **figures: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata of both artifacts after an evaluation with these figures."""
    weak, strong = attribute(0.25, [[1, 2, 1], [0, 0, 0], [0, 0, 0]]), attribute(1.0, [[4, 0, 0], [0, 4, 0], [0, 0, 0]])
    verticals = {
        "mug": {"accuracy": 0.625, "attributes": {"colour": strong, "handle": weak}},
        "rug": {"accuracy": 1.0, "attributes": {"colour": strong}},
    }
    store = open_store(folder)
    store.write(
        "evaluate/validation/sft/metrics.json",
        json.dumps({"macro_accuracy": 0.8125, "verticals": verticals} | figures).encode(),
    )
    metrics, confusion = dsl.Metrics(), dsl.ClassificationMetrics()
    show(store, "validation", "sft", metrics, confusion)
    return metrics.metadata, confusion.metadata


def test_accuracies_are_shown_macro_and_per_vertical(tmp_path: Path) -> None:
    metrics, _ = shown(tmp_path, off_list_rate=0.125)
    assert metrics == {"macro_accuracy": 0.8125, "off_list_rate": 0.125, "accuracy/mug": 0.625, "accuracy/rug": 1.0}


def test_the_confusion_matrix_is_that_of_the_weakest_attribute(tmp_path: Path) -> None:
    _, confusion = shown(tmp_path)
    assert confusion["attribute"] == "mug: handle"
    matrix = confusion["confusionMatrix"]
    assert [entry["displayName"] for entry in matrix["annotationSpecs"]] == ["red", "blue", "off-list"]
    assert [row["row"] for row in matrix["rows"]] == [[1, 2, 1], [0, 0, 0], [0, 0, 0]]


def test_figures_that_kubeflow_cannot_store_are_left_out(tmp_path: Path) -> None:
    metrics, _ = shown(
        tmp_path, expected_calibration_error=float("nan"), coverage_at_95_precision=None, abstention_rate=0
    )
    assert metrics["abstention_rate"] == 0.0
    assert not {"expected_calibration_error", "coverage_at_95_precision"} & metrics.keys()
