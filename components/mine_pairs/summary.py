"""The report on mined pairs: what was kept, what was dropped and why, and how far the consensus can be trusted."""

from typing import Any

import polars as pl
from rich.table import Table

from attrloop.components.catalogue.records import LABELLED_SOURCES
from attrloop.components.console import PlainConsole
from attrloop.components.mine_pairs.consensus_gate import TASK
from attrloop.components.mine_pairs.votes import BINS, TRUSTED
from attrloop.components.run.config import MineConfig

ANCHOR, CONSENSUS = "anchor", "consensus"
_UNLABELLED = pl.col("split").is_null()


def report_of(
    tallies: pl.DataFrame, mined: pl.DataFrame, kept: pl.DataFrame, gate: pl.DataFrame, config: MineConfig
) -> dict[str, Any]:
    """Builds the report. It holds no times, so the same chains give the same file.

    Args:
        tallies: as `votes.tally` returns them, over all chains.
        mined: cells (see `balance.cells_of`) of all candidates.
        kept: cells of the rows that were written.
        gate: as `gate.judge` returns it.
        config: the thresholds.

    Returns:
        A JSON object; README.md describes it.
    """
    opened = mined.join(gate.select(*TASK, "open"), on=TASK, how="left").filter(
        pl.col("open").fill_null(True) | pl.col("source").is_in(LABELLED_SOURCES)
    )
    outcomes = _numbers(tallies.filter(_UNLABELLED).group_by("outcome").agg(pl.col("count").sum()).sort("outcome"))
    rows = {
        "pairs": _rows(kept, CONSENSUS),
        "anchors": _rows(kept, ANCHOR),
        "label_rows": _rows(kept, *LABELLED_SOURCES),
    }
    listed = pl.col("rejected_answer").is_not_null()
    dropped = {
        "gate": _rows(mined) - _rows(opened),
        "balance": _rows(opened.filter(listed), CONSENSUS) - _rows(kept.filter(listed), CONSENSUS),
        "off-list cap": _rows(opened.filter(~listed), CONSENSUS) - _rows(kept.filter(~listed), CONSENSUS),
        "anchor cap": _rows(opened, ANCHOR) - rows["anchors"],
    }
    return {
        "arm": config.arm,
        "why_empty": "" if any(rows.values()) else _why(outcomes, dropped),
        "rows": rows,
        "samples": outcomes,
        "labelled_samples": _numbers(
            tallies.filter(~_UNLABELLED).group_by("split").agg(pl.col("count").sum()).sort("split")
        ),
        "dropped_rows": dropped,
        "values": _values(opened, kept),
        "gate": gate.to_dicts(),
        "agreement": _agreement(tallies),
        "consensus_precision": _precision(tallies),
    }


def _rows(cells: pl.DataFrame, *sources: str) -> int:
    return int((cells.filter(pl.col("source").is_in(sources)) if sources else cells)["count"].sum())


def _numbers(frame: pl.DataFrame) -> dict[str, int]:
    return dict(frame.iter_rows())


def _why(outcomes: dict[str, int], dropped: dict[str, int]) -> str:
    reasons = [f"{count} samples: {name}" for name, count in outcomes.items()] + [
        f"{count} rows dropped by the {name}" for name, count in dropped.items() if count
    ]
    return "No rows: " + ("; ".join(reasons) or "there are no chains of unlabelled listings") + "."


def _values(before: pl.DataFrame, after: pl.DataFrame) -> list[dict[str, Any]]:
    """By attribute and value, over verticals: rows and weight of pairs that choose or reject it, and of its anchors."""
    anchored = pl.col("source").is_in([ANCHOR, "label_anchor"])
    counts = []
    for when, cells in (("before", before), ("after", after)):
        anchors, preferences = cells.filter(anchored), cells.filter(~anchored)
        roles = (
            ("chosen", preferences, "chosen_answer"),
            ("rejected", preferences, "rejected_answer"),
            ("anchor", anchors, "chosen_answer"),
        )
        for role, rows, column in roles:
            mass = (pl.col("weight") * pl.col("count")).sum()
            counted = rows.group_by("attribute", value=pl.col(column)).agg(count=pl.col("count").sum(), weight=mass)
            counts.append(counted.with_columns(name=pl.lit(f"{role}_{when}")))
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for row in pl.concat(counts).iter_rows(named=True):
        entry = table.setdefault((row["attribute"], row["value"] or "off-list"), {})
        entry[row["name"]] = {"count": row["count"], "weight": round(row["weight"], 6)}
    return [
        {"attribute": attribute, "value": value, **dict(sorted(table[attribute, value].items()))}
        for attribute, value in sorted(table)
    ]


def _agreement(tallies: pl.DataFrame) -> list[dict[str, Any]]:
    """The histogram of agreement over all samples, with the majority's accuracy on labelled validation samples."""
    gold = (pl.col("split") == "validation").fill_null(False) & pl.col("right").is_not_null()
    bins = tallies.group_by("bin").agg(
        samples=pl.col("count").sum(),
        labelled=pl.col("count").filter(gold).sum(),
        right=pl.col("count").filter(gold & pl.col("right").fill_null(False)).sum(),
    )
    found = {row["bin"]: row for row in bins.iter_rows(named=True)}
    empty = {"samples": 0, "labelled": 0, "right": 0}
    return [
        {"from": k / BINS, "to": (k + 1) / BINS, **_with_accuracy({key: found.get(k, empty)[key] for key in empty})}
        for k in range(BINS)
    ]


def _precision(tallies: pl.DataFrame) -> dict[str, Any]:
    """How often the consensus that passes the threshold is right, by split of the labels."""
    passed = tallies.filter(pl.col("outcome").is_in(TRUSTED), pl.col("right").is_not_null())
    table = (
        passed.group_by("split")
        .agg(labelled=pl.col("count").sum(), right=pl.col("count").filter(pl.col("right")).sum())
        .sort("split")
    )
    return {row.pop("split"): _with_accuracy(row) for row in table.to_dicts()}


def mean_agreement(tallies: pl.DataFrame) -> float:
    """The agreement of samples on average, in [0, 1]; exact to half a bin of the histogram."""
    counts = tallies.group_by("bin").agg(pl.col("count").sum())
    middle = (pl.col("bin") + 0.5) / BINS
    return round(counts.select((middle * pl.col("count")).sum() / pl.col("count").sum()).item() or 0.0, 3)


def _with_accuracy(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "accuracy": row["right"] / row["labelled"] if row["labelled"] else None}


def show(report: dict[str, Any], console: PlainConsole) -> None:
    """Prints the report: a table of samples and rows, and one of what the gate closed."""
    table = Table("", "count", title=f"Mined pairs ({report['arm']})", title_justify="left")
    for section, entries in (
        ("samples", report["samples"]),
        ("dropped", report["dropped_rows"]),
        ("kept", report["rows"]),
    ):
        for name, count in entries.items():
            table.add_row(f"{section}: {name.replace('_', ' ')}", f"{count:,}")
    for split, row in report["consensus_precision"].items():
        table.add_row(f"consensus right, {split} labels", f"{row['right']} of {row['labelled']}")
    console.print(table)
    closed = [row for row in report["gate"] if not row["open"]]
    if closed:
        gate = Table(
            "vertical",
            "attribute",
            "judged by",
            "accuracy",
            "labels",
            title="Closed by the consensus gate",
            title_justify="left",
        )
        for row in closed:
            gate.add_row(
                row["vertical"],
                row["attribute"],
                row["judged_by"],
                f"{row['judged_accuracy']:.0%}",
                str(row["labelled"]),
            )
        console.print(gate)
    if report["why_empty"]:
        console.print(report["why_empty"])
