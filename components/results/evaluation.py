"""The record of an evaluation (`metrics.json`), and the table of its metrics.

A metric is one field of `Evaluation`, annotated with a `Metric` that says how it is computed, what people call it and
where it is shown. The report, Kubeflow's pages and MLflow read that table. To add a metric, add a field (with the
default None, so that files of earlier versions still load) and, in `metrics.py`, its function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import BaseModel

from attrloop.components.gold.left_out import Omission
from attrloop.components.results import metrics
from attrloop.components.results.bootstrap import Interval
from attrloop.components.results.metrics import Confusion, ReliabilityBin


class AttributeScores(BaseModel):
    """How well one attribute of a vertical was answered.

    Attributes:
        accuracy: the fraction of right answers.
        interval: the accuracy's interval.
        macro_f1: see `metrics.macro_f1`, in [0, 1].
        count: gold samples.
        confusion: gold value by answer.
    """

    accuracy: float
    interval: Interval
    macro_f1: float
    count: int
    confusion: Confusion


class VerticalScores(BaseModel):
    """How well a vertical was answered.

    Attributes:
        accuracy: the fraction of right answers over all samples of the vertical.
        interval: the accuracy's interval.
        macro_f1: mean over the attributes, in [0, 1].
        count: gold samples.
        answer_entropy: entropy of the answers, mean over the attributes, in bits.
        gold_entropy: entropy of the gold values, mean over the attributes, in bits.
        attributes: by name.
    """

    accuracy: float
    interval: Interval
    macro_f1: float
    count: int
    answer_entropy: float
    gold_entropy: float
    attributes: dict[str, AttributeScores]


@dataclass(frozen=True)
class Metric:
    """How one number of an evaluation is computed, named and shown. MLflow shows all of them.

    Attributes:
        label: its name for people.
        shown: its format, with the unit where it has one.
        measure: computes it from the predictions and the scores of each vertical.
        kubeflow: whether Kubeflow's pages show it.
        report: whether the report shows it among what is watched beside accuracy.
        summary: its name in `summary.json`, whose schema must allow it; "" to leave it out.
    """

    label: str
    shown: str
    measure: Callable[[pl.DataFrame, dict[str, VerticalScores]], float]
    kubeflow: bool = False
    report: bool = False
    summary: str = ""


def _each(measure: Callable[[pl.DataFrame], float]) -> Callable[[pl.DataFrame, dict[str, VerticalScores]], float]:
    return lambda frame, _: measure(frame)


def _mean(name: str) -> Callable[[pl.DataFrame, dict[str, VerticalScores]], float]:
    return lambda _, verticals: float(np.mean([getattr(scores, name) for scores in verticals.values()]))


class Evaluation(BaseModel):
    """Everything that `metrics.json` says about one stage on one split.

    Coverage and calibration are about on-list answers, the only ones that could be used. Coverage is a fraction of all
    samples.

    Attributes:
        stage: `base`, `sft`, `iteration-1`, ...
        split: `validation` or `test`.
        count: gold samples.
        macro_accuracy_interval: low and high, at a confidence of 95%.
        reliability: ten bins of the confidence, without empty ones.
        verticals: by name.
        left_out: the gold listings that are not among the samples, and why (see `gold.left_out`); None for none.
    """

    stage: str = ""
    split: str = ""
    count: int
    macro_accuracy: Annotated[
        float, Metric("macro accuracy", "{:.1%}", _mean("accuracy"), kubeflow=True, report=True, summary="macro")
    ]
    macro_accuracy_interval: Interval
    macro_f1: Annotated[float, Metric("macro F1", "{:.2f}", _mean("macro_f1"), report=True)]
    coverage_at_95_precision: Annotated[
        float, Metric("coverage at 95% precision", "{:.1%}", _each(metrics.coverage), kubeflow=True, report=True)
    ]
    expected_calibration_error: Annotated[
        float, Metric("calibration error", "{:.3f}", _each(metrics.calibration_error), kubeflow=True, report=True)
    ]
    off_list_rate: Annotated[
        float, Metric("off-list answers", "{:.1%}", _each(metrics.off_list_rate), kubeflow=True, report=True)
    ]
    abstention_rate: Annotated[
        float, Metric("'not visible' answers", "{:.1%}", _each(metrics.abstention_rate), kubeflow=True, report=True)
    ]
    chain_tokens_mean: Annotated[
        float, Metric("chain length, tokens", "{:.1f}", _each(metrics.chain_tokens_mean), kubeflow=True, report=True)
    ]
    answer_entropy: Annotated[float, Metric("answer entropy, bits", "{:.2f}", _mean("answer_entropy"), report=True)]
    gold_entropy: Annotated[float, Metric("gold entropy, bits", "{:.2f}", _mean("gold_entropy"))]
    reliability: list[ReliabilityBin]
    verticals: dict[str, VerticalScores]
    left_out: Omission | None = None

    @property
    def accuracies(self) -> dict[str, float]:
        """Accuracy by vertical."""
        return {name: scores.accuracy for name, scores in self.verticals.items()}

    def number(self, name: str) -> float | None:
        """A metric by its name; None where this evaluation lacks it, or it is not finite."""
        value = getattr(self, name)
        return float(value) if value is not None and isfinite(value) else None

    def text(self, name: str) -> str:
        """A metric by its name, for people; "" where there is none."""
        value = self.number(name)
        return "" if value is None else METRICS[name].shown.format(value)


METRICS: dict[str, Metric] = {
    name: metric
    for name, field in Evaluation.model_fields.items()
    for metric in field.metadata
    if isinstance(metric, Metric)
}
