"""The report's first panels: accuracy by stage and vertical, calibration, what is watched beside accuracy."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from attrloop.components.report import plots
from attrloop.components.results.bootstrap import Interval
from attrloop.components.results.comparison import Change
from attrloop.components.results.evaluation import METRICS
from attrloop.components.results.metrics import PRECISION
from attrloop.components.results.reader import Results


@dataclass(frozen=True)
class Cell:
    """A stage's accuracy in a row, in [0, 1], with its interval."""

    stage: str
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Row:
    """One line of the table of verticals.

    Attributes:
        name: the vertical; `macro` for the last row, the mean over verticals.
        cells: one for each stage.
        gain: the gain of the best stage over the reference.
        verdict: `same`, or `up` or `down`, with ` sure` where the interval excludes zero.
    """

    name: str
    cells: list[Cell]
    gain: Change
    verdict: str


def vertical_rows(results: Results) -> list[Row]:
    """A row for each vertical, and a last one for the mean over verticals."""
    rows = []
    for name, gain in [*results.gain.verticals.items(), ("macro", results.gain.macro)]:
        verdict = "up" if gain.delta > 0 else "down" if gain.delta < 0 else "same"
        if gain.delta and (gain.low > 0 or gain.high < 0):
            verdict += " sure"
        rows.append(Row(name, [_cell(results, stage, name) for stage in results.stages], gain, verdict))
    return rows


def _cell(results: Results, stage: str, vertical: str) -> Cell:
    evaluation = results.shown[stage]
    if vertical == "macro":
        return Cell(stage, evaluation.macro_accuracy, evaluation.macro_accuracy_interval)
    scores = evaluation.verticals[vertical]
    return Cell(stage, scores.accuracy, scores.interval)


def charts(results: Results) -> dict[str, Markup]:
    """The page's main plots by name; agreement is missing where nothing was mined."""
    lines = {
        split: {stage: (found.macro_accuracy, *found.macro_accuracy_interval) for stage, found in by_stage.items()}
        for split, by_stage in results.evaluations.items()
    }
    verticals = [(row.name, {cell.stage: cell.accuracy for cell in row.cells}) for row in vertical_rows(results)[:-1]]
    confidence = {
        stage: [(b.confidence, b.accuracy, b.count) for b in results.shown[stage].reliability]
        for stage in dict.fromkeys((results.reference, results.best))
    }
    agreement = {
        stage: [((b["from"] + b["to"]) / 2, b["accuracy"], b["labelled"]) for b in bins if b["labelled"]]
        for stage, bins in _agreement(results).items()
    }
    made = {
        "stages": plots.stage_lines(results.stages, lines, results.best),
        "verticals": plots.dumbbells(verticals, results.reference, results.best),
        "confidence": plots.diagonal(confidence, "confidence of the answer", "accuracy"),
    }
    if agreement:
        made["agreement"] = plots.diagonal(agreement, "agreement of the chains", "accuracy")
    return {name: Markup(picture) for name, picture in made.items()}


def publishable(results: Results) -> float | None:
    """The largest fraction of validation samples whose consensus is right at least 95% of the time.

    Samples are taken by falling agreement of the chains that were sampled last, as mining counts agreement. None where
    nothing was sampled, or no labels tell what is right.
    """
    mined = list(_agreement(results).values())
    if not mined:
        return None
    taken = right = most = 0
    for entry in reversed(mined[-1]):
        taken, right = taken + entry["labelled"], right + entry["right"]
        if right >= PRECISION * taken - 1e-9:
            most = taken
    return most / taken


def _agreement(results: Results) -> dict[str, list[dict[str, Any]]]:
    """The bins of agreement by iteration, where validation labels tell how often the consensus is right."""
    mined = {stage: results.mining(stage).get("agreement", []) for stage in results.stages}
    return {stage: bins for stage, bins in mined.items() if any(entry["labelled"] for entry in bins)}


def watched(results: Results) -> list[tuple[str, list[str]]]:
    """(label, text by stage) of the metrics that warn of collapse, over-confidence and drift."""
    return [
        (metric.label, [results.shown[stage].text(name) for stage in results.stages])
        for name, metric in METRICS.items()
        if metric.report
    ]
