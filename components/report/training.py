"""The report's panels on training: what each iteration learnt from, and the training curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from attrloop.components.catalogue.records import LABELLED_SOURCES
from attrloop.components.report import plots
from attrloop.components.results.metrics import OFF_LIST
from attrloop.components.results.reader import Results

_VALUES = 20  # values shown with their chosen and rejected counts
_POINTS = 80  # of a training curve
_INKS = {"loss": plots.colour("sft"), "chosen": plots.UP, "rejected": plots.DOWN}
_CURVES = (  # the first that a stage's training logged is shown: what it is, and the series with their keys
    (
        "change of the chains' log-probability, nats",
        {"chosen": "logps/chosen_change", "rejected": "logps/rejected_change"},
    ),
    ("log-probability of the chains, nats", {"chosen": "logps/chosen", "rejected": "logps/rejected"}),
    ("training loss", {"loss": "loss"}),
)


@dataclass(frozen=True)
class Curve:
    """A stage's training curve.

    Attributes:
        stage: its name.
        what: what the plot shows, with its unit.
        plot: the plot.
        alarm: whether the chosen chains lost more log-probability than they should.
    """

    stage: str
    what: str
    plot: Markup
    alarm: bool


def mining(results: Results) -> list[dict[str, Any]]:
    """What each iteration learnt from: its rows, what became of its samples, the gate, and the balance of values."""
    found = []
    for stage in results.stages:
        rows = results.pairs(stage)
        if rows is not None:
            report, labelled = results.mining(stage), int(rows["source"].is_in(LABELLED_SOURCES).sum())
            gate, pairs = report.get("gate", []), int(rows["contrast"].sum())
            found.append(
                {
                    "stage": stage,
                    "pairs": pairs,
                    "anchors": rows.height - pairs,
                    "labelled": labelled,
                    "unlabelled": rows.height - labelled,
                    "samples": report.get("samples", {}),
                    "dropped": report.get("dropped_rows", {}),
                    "precision": report.get("consensus_precision", {}),
                    "why_empty": report.get("why_empty", ""),
                    "gates": len(gate),
                    "closed": [row for row in gate if not row.get("open", True)],
                    "values": _values(rows),
                }
            )
    return found


def _values(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Chosen, rejected and anchor counts of each (attribute, value), the least balanced first."""
    roles = (
        ("chosen", rows.filter("contrast"), "chosen_answer"),
        ("rejected", rows.filter("contrast"), "rejected_answer"),
        ("anchors", rows.filter(~pl.col("contrast")), "chosen_answer"),
    )
    parts = [
        part.select("attribute", pl.col(column).fill_null(OFF_LIST).alias("value"), role=pl.lit(role))
        for role, part, column in roles
    ]
    counted = (
        pl.concat(parts)
        .group_by("attribute", "value")
        .agg(*((pl.col("role") == role).sum().alias(role) for role, *_ in roles))
    )
    gap = (pl.col("chosen").cast(pl.Int64) - pl.col("rejected").cast(pl.Int64)).abs()
    order = (gap, pl.col("chosen") + pl.col("rejected"), "attribute", "value")
    return counted.sort(*order, descending=[True, True, False, False]).head(_VALUES).to_dicts()


def curves(results: Results) -> list[Curve]:
    """The training curve of each stage that was trained in this run.

    SFT has its loss. DPO has the log-probabilities of the chosen and rejected chains.
    """
    return [curve for stage in results.stages if (curve := _curve(stage, results.curve(stage)))]


def _curve(stage: str, rows: list[dict[str, Any]]) -> Curve | None:
    for what, keys in _CURVES:
        series = {name: [(row["step"], row[key]) for row in rows if key in row] for name, key in keys.items()}
        shown = {name: _thinned(points) for name, points in series.items() if points}
        if shown:
            alarm = any(row.get("alarm/chosen_logps_fell") for row in rows)
            return Curve(stage, what, Markup(plots.curves(shown, _INKS)), alarm)
    return None


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_POINTS` points, each the mean of its neighbours."""
    size = -(-len(points) // _POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
