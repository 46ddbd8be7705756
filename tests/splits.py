"""Splits of a workspace, as preflight would have decided them."""

from collections.abc import Mapping

import polars as pl

from attrloop.components.gold.split import rank
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace


def write_splits(ws: Workspace, splits: Mapping[str, str], mixed: Mapping[str, str] | None = None) -> None:
    """Writes the finished artifact, with the split of every listing and the gold listings that must not be judged."""
    rows = [(key, split, rank(key), key, (mixed or {}).get(key)) for key, split in splits.items()]
    schema = {
        "listing": pl.String,
        "split": pl.Enum(["train", "validation", "test"]),
        "rank": pl.Float64,
        "group": pl.String,
        "mixed": pl.String,
    }
    artifact = Artifact(ws.store, layout.SPLITS, {"splits": str(rows)})
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(artifact.folder / layout.SPLITS_FILE)
    artifact.finish("splits", {}, [layout.SPLITS_FILE])
