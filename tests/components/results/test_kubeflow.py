"""What Kubeflow's pages show of an evaluation, with KFP's own artifacts as the sink."""

from typing import Any

from kfp import dsl

from attrloop.components.evaluate.score import score
from attrloop.components.results.evaluation import Evaluation
from attrloop.components.results.kubeflow import show
from tests.predictions import SCHEMA, frame, row


def evaluated() -> Evaluation:
    """Two of four mugs are right, the only bag is; the weakest attribute is the colour of mugs."""
    return score(
        frame(
            row("m1", "red", "red"),
            row("m2", "red", "blue"),
            row("m3", "red", None),
            row("m4", "round", "round", attribute="shape"),
            row("b1", "red", "red", vertical="bag"),
        ),
        SCHEMA,
        resamples=20,
        seed=0,
    )


def shown(evaluation: Evaluation) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata of both artifacts."""
    metrics, confusion = dsl.Metrics(), dsl.ClassificationMetrics()
    show(evaluation, metrics, confusion)
    return metrics.metadata, confusion.metadata


def test_accuracies_and_rates_are_shown() -> None:
    metrics, _ = shown(evaluated())
    assert metrics["macro_accuracy"] == 0.75 and metrics["off_list_rate"] == 0.2
    assert (metrics["accuracy/mug"], metrics["accuracy/bag"]) == (0.5, 1.0)
    assert metrics.keys() == {
        "macro_accuracy", "coverage_at_95_precision", "expected_calibration_error", "off_list_rate",
        "abstention_rate", "chain_tokens_mean", "accuracy/bag", "accuracy/mug",
    }  # fmt: skip


def test_the_confusion_matrix_is_that_of_the_weakest_attribute() -> None:
    _, confusion = shown(evaluated())
    assert confusion["attribute"] == "mug: colour"
    matrix = confusion["confusionMatrix"]
    assert [entry["displayName"] for entry in matrix["annotationSpecs"]] == ["red", "blue", "not_visible", "off-list"]
    assert [row["row"] for row in matrix["rows"]] == [[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_numbers_that_kubeflow_cannot_store_are_left_out() -> None:
    metrics, _ = shown(
        evaluated().model_copy(update={"expected_calibration_error": float("nan"), "abstention_rate": 0})
    )
    assert metrics["abstention_rate"] == 0.0 and "expected_calibration_error" not in metrics
