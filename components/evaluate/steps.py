"""What the pipeline does around an evaluation: the loop's state before and after, and what the Kubeflow UI shows of it."""

import json
import math
from typing import Any, Protocol

from attrloop.components.evaluate.evaluate import evaluate
from attrloop.components.evaluate.facts import STATE
from attrloop.components.run.reporting import figure, reports
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.store import Store, open_store

_RATES = (
    "macro_accuracy",
    "off_list_rate",
    "abstention_rate",
    "coverage_at_95_precision",
    "expected_calibration_error",
    "chain_tokens_mean",
)


class MetricsSink(Protocol):
    """Where single numbers are shown, e.g. KFP's `Metrics`."""

    def log_metric(self, metric: str, value: float) -> None: ...


class ConfusionSink(Protocol):
    """Where a confusion matrix is shown, e.g. KFP's `ClassificationMetrics`."""

    metadata: dict[str, Any]

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


@reports("evaluate")
def evaluate_stage(
    workspace: str, stage: str, adapter: str, state: str, metrics: MetricsSink, confusion: ConfusionSink, page: str
) -> str:
    """Evaluates a new stage on validation, and the base model with the first one; writes the report so far.

    Args:
        state: the loop's state (JSON) before the stage; "" for the first.
        page: local path of a copy of the report.

    Returns:
        the loop's state (JSON) with the new stage; it says whether the loop stops.
    """
    ws = Workspace.open(workspace)
    stages = {stage: adapter} if state else {"base": "", stage: adapter}
    scores = evaluate(workspace, stages, "validation")
    figure("macro accuracy", scores[stage])
    outcomes = [Outcome(stage=name, adapter=path, macro=scores[name]) for name, path in stages.items()]
    before = LoopState.model_validate_json(state) if state else None
    after = before.after(outcomes[0], ws.config.loop.min_gain) if before else LoopState(outcomes=tuple(outcomes))
    ws.store.write(STATE, after.model_dump_json(indent=1).encode())
    show(ws.store, "validation", stage, metrics, confusion)
    _report(workspace, after.model_dump_json(), page)
    return after.model_dump_json()


@reports("evaluate-test")
def evaluate_all(workspace: str, state: str, metrics: MetricsSink, confusion: ConfusionSink) -> None:
    """Evaluates every stage of the loop on test; shows the best one's figures."""
    loop = LoopState.model_validate_json(state)
    scores = evaluate(workspace, {outcome.stage: outcome.adapter for outcome in loop.outcomes}, "test")
    figure("macro accuracy", scores[loop.best.stage])
    store = open_store(workspace)
    store.write(STATE, loop.model_dump_json(indent=1).encode())
    show(store, "test", loop.best.stage, metrics, confusion)


def show(store: Store, split: str, stage: str, metrics: MetricsSink, confusion: ConfusionSink) -> None:
    """Shows a stage's accuracies and rates, and the confusion matrix of its weakest attribute.

    Values that are missing or not finite are left out: KFP cannot store them.
    """
    found = json.loads(store.read(f"evaluate/{split}/{stage}/metrics.json"))
    numbers = {name: found.get(name) for name in _RATES} | {
        f"accuracy/{vertical}": entry["accuracy"] for vertical, entry in found["verticals"].items()
    }
    for name, value in numbers.items():
        if value is not None and math.isfinite(value):
            metrics.log_metric(name, float(value))
    attributes = [
        (entry["accuracy"], f"{v}: {a}", entry["confusion"])
        for v, vertical in found["verticals"].items()
        for a, entry in vertical["attributes"].items()
    ]
    if attributes:
        _, name, matrix = min(attributes, key=lambda item: item[:2])
        confusion.log_confusion_matrix(
            list(matrix["values"]), [[int(count) for count in row] for row in matrix["matrix"]]
        )
        confusion.metadata["attribute"] = name


@reports("report")
def write_report(workspace: str, state: str, page: str) -> None:
    """Writes report and summary into the workspace, a copy of the report to the local path `page`, and both to the tracked run."""
    from attrloop.components.register_adapter.register import attach

    _report(workspace, state, page)
    attach(workspace)


def _report(workspace: str, state: str, page: str) -> None:
    from attrloop.components.evaluate.report import PAGE, report

    report(workspace, state)
    with open(page, "wb") as file:
        file.write(open_store(workspace).read(PAGE))
