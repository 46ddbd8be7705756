"""Splits of a workspace, as preflight would have decided them; no photograph is looked at."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attrloop.components.digests import digest
from attrloop.components.gold.register import LISTINGS, register_of
from attrloop.components.gold.split import draw, rank
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import PHOTOGRAPHS
from attrloop.components.run.workspace import Workspace

_SPLITS: dict[str, Any] = {
    "listing": pl.String,
    "split": pl.Enum(["train", "validation", "test"]),
    "rank": pl.Float64,
    "group": pl.String,
    "mixed": pl.String,
}
_PHOTOGRAPHS: dict[str, Any] = {"listing": pl.String, "photograph": pl.UInt64, "key": pl.UInt64}


def write_splits(ws: Workspace, splits: Mapping[str, str], mixed: Mapping[str, str] | None = None) -> None:
    """Writes the finished artifact, and remembers the splits.

    Args:
        ws: the workspace.
        splits: of every listing; each has photographs of its own.
        mixed: gold listings that must not be judged, each with the listing that shares photographs with it.
    """
    rows = [(key, split, rank(key), key, (mixed or {}).get(key)) for key, split in splits.items()]
    artifact = Artifact(ws.store, layout.SPLITS, {PHOTOGRAPHS: digest(rows)})
    if artifact.manifest is not None:
        return
    numbers = {key: int(2**64 * draw("photograph", key)) for key in splits}
    known = [(key, split, [numbers[key]]) for key, split in splits.items()]
    register_of(ws.config, ws.store.root).listings.add(pl.DataFrame(known, schema=LISTINGS, orient="row"))
    photographs = [(key, number, number) for key, number in numbers.items()]
    for name, found, schema in (
        (layout.SPLITS_FILE, rows, _SPLITS),
        (layout.PHOTOGRAPHS_FILE, photographs, _PHOTOGRAPHS),
    ):
        pl.DataFrame(found, schema=schema, orient="row").write_parquet(artifact.folder / name)
    counts: dict[str, float] = {split: list(splits.values()).count(split) for split in ("train", "validation", "test")}
    artifact.finish("splits", counts, [layout.SPLITS_FILE, layout.PHOTOGRAPHS_FILE])
