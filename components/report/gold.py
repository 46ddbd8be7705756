"""What the report says of gold: what is left out of comparisons and why, and which listings share photographs."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from attrloop.components.catalogue.records import GOLD_SPLITS
from attrloop.components.gold.learnt import unknown_history
from attrloop.components.gold.left_out import REASONS, LeftOut
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.manifest import intact, read_manifest
from attrloop.components.storage.parquet import scan_parquet

_NAMED = 50  # listings that the page names; the file has all


@dataclass(frozen=True)
class Named:
    """A gold listing that is left out, for the page.

    Attributes:
        listing: its id.
        split: of the listing.
        why: in words.
    """

    listing: str
    split: str
    why: str


def gold(results: Results) -> dict[str, Any]:
    """What the page shows.

    Returns:
        `left_out` and `unknown`: sentences for the top of the page. `table`: by split the gold listings, how many are
        left out for each reason, and how many are left. `named`: the first listings that are
        left out; `more`: how many further ones; `file`: where all are. `shared`: which listings share photographs.
    """
    rows = results.left_out
    return {
        "left_out": left_out(results),
        "unknown": unknown(results),
        "reasons": REASONS,
        "table": [(split, found) for split in GOLD_SPLITS if (found := results.omissions.get(split))],
        "named": [_named(row) for row in rows[:_NAMED]],
        "more": max(0, len(rows) - _NAMED),
        "file": f"{results.ws.store.root}/{layout.LEFT_OUT_FILE}",
        "shared": shared_photographs(results),
    }


def left_out(results: Results) -> list[str]:
    """A sentence for each split with gold that is left out."""
    return [f"On {split}, {found.text}." for split in GOLD_SPLITS if (found := results.omissions.get(split))]


def unknown(results: Results) -> list[str]:
    """A sentence on ancestors whose history is unknown."""
    return [f"I{unknown_history(results.unknown)[1:]}."] if results.unknown else []


def _named(row: LeftOut) -> Named:
    return Named(row.listing, row.split, REASONS[row.reason] + (f": {row.other}" if row.other else ""))


def shared_photographs(results: Results) -> str:
    """How many groups of listings share photographs, in words; "" where an earlier version made the run."""
    store = results.ws.store
    if read_manifest(store, layout.SPLITS) is None:
        return ""
    groups = (
        scan_parquet(intact(store, f"{layout.SPLITS}/{layout.SPLITS_FILE}"))
        .group_by("group")
        .len()
        .filter(pl.col("len") > 1)
        .select(pl.len().alias("groups"), pl.col("len").sum().alias("listings"), pl.col("len").max().alias("largest"))
        .collect()
    )
    count, listings, largest = groups.row(0)
    if not count:
        return "no two listings share a photograph"
    plural = "group" if count == 1 else "groups"
    return f"{listings:,} listings share photographs, in {count:,} {plural}; the largest has {largest:,}"
