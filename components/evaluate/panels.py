"""The parts of the report's page: facts in the shape in which the template shows them."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from attrloop.components.catalogue.records import LABELLED_SOURCES
from attrloop.components.evaluate import plots
from attrloop.components.evaluate.facts import Facts
from attrloop.components.evaluate.metrics import OFF_LIST, PRECISION

_CELLS = 12_000  # of all confusion matrices together: keeps the page light for big schemas
_VALUES = 20  # values shown with their chosen and rejected counts
_POINTS = 80  # of a training curve
_RATES = {  # what is watched beside accuracy: key of metrics.json, its name, how it is shown
    "macro_accuracy": ("macro accuracy", "{:.1%}"),
    "macro_f1": ("macro F1", "{:.2f}"),
    "coverage_at_95_precision": ("coverage at 95% precision", "{:.1%}"),
    "expected_calibration_error": ("calibration error", "{:.3f}"),
    "off_list_rate": ("off-list answers", "{:.1%}"),
    "abstention_rate": ("'not visible' answers", "{:.1%}"),
    "chain_tokens_mean": ("chain length, tokens", "{:.1f}"),
    "answer_entropy": ("answer entropy, bits", "{:.2f}"),
}


def vertical_rows(facts: Facts) -> list[dict[str, Any]]:
    """A row per vertical and a last one, `macro`: accuracy and interval by stage, the best stage's gain, its interval and what it amounts to."""
    rows = []
    for name in [*facts.shown[facts.best]["verticals"], "macro"]:
        gain = facts.gain["macro"] if name == "macro" else facts.gain["verticals"][name]
        low, high = gain["interval"]
        verdict = (
            "same"
            if not gain["delta"]
            else ("up" if gain["delta"] > 0 else "down") + (" sure" if low > 0 or high < 0 else "")
        )
        rows.append(
            {"name": name, "cells": [_cell(facts, stage, name) for stage in facts.stages], "verdict": verdict, **gain}
        )
    return rows


def _cell(facts: Facts, stage: str, vertical: str) -> dict[str, Any]:
    figures = facts.shown[stage]
    if vertical == "macro":
        return {"stage": stage, "accuracy": figures["macro_accuracy"], "interval": figures["macro_accuracy_interval"]}
    entry = figures["verticals"][vertical]
    return {"stage": stage, "accuracy": entry["accuracy"], "interval": entry["interval"]}


def charts(facts: Facts) -> dict[str, Markup]:
    """The page's main plots by name; agreement is missing where nothing was mined."""
    lines = {
        split: {
            stage: (entry["macro_accuracy"], *entry["macro_accuracy_interval"]) for stage, entry in by_stage.items()
        }
        for split, by_stage in facts.metrics.items()
    }
    verticals = [
        (row["name"], {cell["stage"]: cell["accuracy"] for cell in row["cells"]}) for row in vertical_rows(facts)[:-1]
    ]
    compared = dict.fromkeys((facts.reference, facts.best))
    confidence = {
        stage: [(b["confidence"], b["accuracy"], b["count"]) for b in facts.shown[stage]["reliability"]]
        for stage in compared
    }
    made = {
        "stages": plots.stage_lines(facts.stages, lines, facts.best),
        "verticals": plots.dumbbells(verticals, facts.reference, facts.best),
        "confidence": plots.diagonal(confidence, "confidence of the answer", "accuracy"),
    }
    agreement = {
        stage: [((b["from"] + b["to"]) / 2, b["accuracy"], b["labelled"]) for b in bins if b["labelled"]]
        for stage, bins in _agreement(facts).items()
    }
    if agreement:
        made["agreement"] = plots.diagonal(agreement, "agreement of the chains", "accuracy")
    return {name: Markup(picture) for name, picture in made.items()}


def publishable(facts: Facts) -> float | None:
    """The largest share of validation samples, taken by falling agreement of their chains, whose consensus is right at least 95% of the time.

    Of the chains that were sampled last, and of agreement as mining counts it; None where there are none, or no labels to judge them by.
    """
    mined = list(_agreement(facts).values())
    if not mined:
        return None
    taken = right = most = 0
    for entry in reversed(mined[-1]):
        taken, right = taken + entry["labelled"], right + entry["right"]
        if right >= PRECISION * taken - 1e-9:
            most = taken
    return most / taken


def _agreement(facts: Facts) -> dict[str, list[dict[str, Any]]]:
    """The bins of agreement by the iteration that sampled the chains, where validation labels tell how often they are right."""
    mined = {stage: facts.read(f"{stage}/pairs/report.json").get("agreement", []) for stage in facts.stages}
    return {stage: bins for stage, bins in mined.items() if any(entry["labelled"] for entry in bins)}


def guards(facts: Facts) -> list[tuple[str, list[str]]]:
    """(name, shown figure by stage) of the rates that warn of collapse, over-confidence and drift."""
    return [
        (name, [shown.format(facts.shown[stage][key]) for stage in facts.stages])
        for key, (name, shown) in _RATES.items()
    ]


def confusions(facts: Facts) -> Iterator[dict[str, Any]]:
    """Confusion matrices by vertical and attribute for base, the reference and the best, without values that never occur."""
    stages = list(dict.fromkeys(stage for stage in ("base", facts.reference, facts.best) if stage in facts.shown))
    budget = _CELLS
    for vertical, entry in facts.shown[facts.best]["verticals"].items():
        for attribute in entry["attributes"]:
            found = {stage: facts.shown[stage]["verticals"][vertical]["attributes"][attribute] for stage in stages}
            heats = _heats([part["confusion"] for part in found.values()])
            tables = [
                {"stage": stage, "accuracy": part["accuracy"], **heat}
                for (stage, part), heat in zip(found.items(), heats, strict=True)
            ]
            budget -= sum(len(table["rows"]) * len(table["columns"]) for table in tables)
            if budget < 0:
                return
            yield {"vertical": vertical, "attribute": attribute, "tables": tables}


def _heats(confusions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows (gold value, cells) and columns, the same for matrices that are compared; a cell is (count, share of its row, whether it is right), None for 0."""
    counts = [
        {
            (g, a): n
            for g, row in zip(c["values"], c["matrix"], strict=True)
            for a, n in zip(c["values"], row, strict=True)
            if n
        }
        for c in confusions
    ]
    values = dict.fromkeys(value for confusion in confusions for value in confusion["values"] if value != OFF_LIST)
    gold = [value for value in values if any(value == g for cells in counts for g, _ in cells)]
    columns = [
        *(value for value in values if value in gold or any(value == a for cells in counts for _, a in cells)),
        OFF_LIST,
    ]
    heats = []
    for cells in counts:
        totals = {value: sum(n for (g, _), n in cells.items() if g == value) for value in gold}
        rows = [
            (g, [(cells[g, a], cells[g, a] / totals[g], g == a) if (g, a) in cells else None for a in columns])
            for g in gold
        ]
        heats.append({"columns": columns, "rows": rows})
    return heats


def mining(facts: Facts) -> list[dict[str, Any]]:
    """What each iteration learnt from: its rows, what became of its samples, the gate, and the balance of values."""
    found = []
    for stage in facts.stages:
        rows = facts.pairs(stage)
        if rows is not None:
            told = facts.read(f"{stage}/pairs/report.json")
            gate = told.get("gate", [])
            found.append(
                {
                    "stage": stage,
                    "pairs": int(rows["contrast"].sum()),
                    "anchors": int((~rows["contrast"]).sum()),
                    "labelled": int(rows["source"].is_in(LABELLED_SOURCES).sum()),
                    "unlabelled": int((~rows["source"].is_in(LABELLED_SOURCES)).sum()),
                    "samples": told.get("samples", {}),
                    "dropped": told.get("dropped_rows", {}),
                    "precision": told.get("consensus_precision", {}),
                    "why_empty": told.get("why_empty", ""),
                    "gates": len(gate),
                    "closed": [row for row in gate if not row.get("open", True)],
                    "values": _values(rows),
                }
            )
    return found


def _values(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Chosen, rejected and anchor counts per (attribute, value), the least balanced first."""
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
    return (
        counted.sort(
            gap, pl.col("chosen") + pl.col("rejected"), "attribute", "value", descending=[True, True, False, False]
        )
        .head(_VALUES)
        .to_dicts()
    )


def training(facts: Facts) -> list[dict[str, Any]]:
    """Training curves by stage: the loss of SFT; how far the chosen and rejected chains' log-probabilities went from the reference in DPO."""
    found = []
    for stage in facts.stages:
        for path, names in ((f"{stage}/metrics.jsonl", {"loss": "loss"}), (f"{stage}/dpo/metrics.jsonl", {})):
            rows = facts.rows(path)
            change = any("logps/chosen_change" in row for row in rows)
            names = names or {role: f"logps/{role}" + ("_change" if change else "") for role in ("chosen", "rejected")}
            series = {
                name: points
                for name, key in names.items()
                if (points := _thinned([(row["step"], row[key]) for row in rows if key in row]))
            }
            if series:
                what = (
                    "training loss"
                    if "loss" in names
                    else (
                        "change of the chains' log-probability, nats"
                        if change
                        else "log-probability of the chains, nats"
                    )
                )
                inks = {"loss": plots.colour("sft"), "chosen": plots.UP, "rejected": plots.DOWN}
                alarm = any(row.get("alarm/chosen_logps_fell") for row in rows)
                found.append({"stage": stage, "what": what, "plot": Markup(plots.curves(series, inks)), "alarm": alarm})
    return found


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_POINTS` points, each the mean of its neighbours."""
    size = -(-len(points) // _POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def labelled(facts: Facts) -> dict[str, Any]:
    """Listings labelled by split, those without labels, and what the labels cost in US dollars."""
    by_split = {split: facts.ws.labels(split) for split in ("train", "validation", "test")}
    counts = {split: len({label.listing for label in labels}) for split, labels in by_split.items()}
    cost = sum(label.cost for labels in by_split.values() for label in labels)
    return {**counts, "unlabelled": len(facts.ws.listings) - sum(counts.values()), "cost": cost}
