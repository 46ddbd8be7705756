"""What Kubeflow's pages show of an evaluation."""

from typing import Any, Protocol

from attrloop.components.results.evaluation import METRICS, Evaluation


class MetricsSink(Protocol):
    """Where single numbers are shown, e.g. KFP's `Metrics`."""

    def log_metric(self, metric: str, value: float) -> None:
        """Shows a number by its name."""


class ConfusionSink(Protocol):
    """Where a confusion matrix is shown, e.g. KFP's `ClassificationMetrics`."""

    metadata: dict[str, Any]

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        """Shows a square matrix of counts."""


def show(evaluation: Evaluation, metrics: MetricsSink, confusion: ConfusionSink) -> None:
    """Shows a stage's accuracies and rates, how many gold listings are left out, and its weakest confusion matrix.

    Values that are missing or not finite are left out: KFP cannot store them.
    """
    numbers = {name: evaluation.number(name) for name, metric in METRICS.items() if metric.kubeflow}
    numbers |= {f"accuracy/{vertical}": accuracy for vertical, accuracy in evaluation.accuracies.items()}
    numbers |= {"left_out": evaluation.left_out.listings} if evaluation.left_out else {}
    for name, value in numbers.items():
        if value is not None:
            metrics.log_metric(name, value)
    attributes = [
        (scores.accuracy, f"{vertical}: {attribute}", scores.confusion)
        for vertical, entry in evaluation.verticals.items()
        for attribute, scores in entry.attributes.items()
    ]
    if attributes:
        _, name, weakest = min(attributes, key=lambda item: item[:2])
        confusion.log_confusion_matrix(weakest.values, weakest.matrix)
        confusion.metadata["attribute"] = name
