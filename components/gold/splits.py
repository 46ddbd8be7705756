"""The splits of a run's catalogue, as an artifact of its workspace that every step reads."""

import time
from typing import Any

import polars as pl

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import SPLITS, Split
from attrloop.components.gold.decide import Splits
from attrloop.components.gold.split import rank
from attrloop.components.gold.stated import stated_splits
from attrloop.components.gold.survey import Survey, survey
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import PHOTOGRAPHS, MadeFrom
from attrloop.components.run.manifest import intact, read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.parquet import read_parquet, write_parquet

VERSION = 2  # of how splits are decided
_COLUMNS: dict[str, Any] = {
    "listing": pl.String,
    "split": pl.Enum(SPLITS),
    "rank": pl.Float64,
    "group": pl.String,
    "mixed": pl.String,
    "was": pl.Enum(SPLITS),  # see `Splits.contradicted`
}


def make_splits(ws: Workspace, found: Survey | None = None) -> Splits:
    """Decides the splits of a run's catalogue, unless they are decided, and remembers them.

    Args:
        ws: the run's workspace.
        found: the survey of the catalogue; None to make it.

    Raises:
        InputError: the labels of a listing name different splits.
        AttrloopError: as `survey`.
    """
    started = time.monotonic()
    found = found or survey(ws.config, ws.store.root, ws.listings, _stated(ws))
    artifact = begin(ws, found.digest)
    if artifact.manifest is not None:
        return _read(ws)
    splits = found.remember()
    rows = [
        (
            listing,
            split,
            rank(listing),
            splits.group[listing],
            splits.mixed.get(listing),
            splits.contradicted.get(listing),
        )
        for listing, split in splits.of.items()
    ]
    write_parquet(pl.DataFrame(rows, schema=_COLUMNS, orient="row"), artifact.folder / layout.SPLITS_FILE)
    write_parquet(found.photographs, artifact.folder / layout.PHOTOGRAPHS_FILE)
    counts: dict[str, float] = {split: list(splits.of.values()).count(split) for split in SPLITS}
    artifact.finish(
        "splits",
        {**counts, "mixed": len(splits.mixed), "seconds": time.monotonic() - started},
        [layout.SPLITS_FILE, layout.PHOTOGRAPHS_FILE],
    )
    return splits


def begin(ws: Workspace, photographs: str) -> Artifact:
    """Opens the artifact of a catalogue's splits.

    Args:
        ws: the run's workspace.
        photographs: digest of the catalogue's photographs.
    """
    return Artifact.begin(ws, layout.SPLITS, _made_from(photographs))


def _made_from(photographs: str) -> MadeFrom:
    return MadeFrom(VERSION, config=("data.splits",), reads=("catalogue", "values"), extra={PHOTOGRAPHS: photographs})


def decided(ws: Workspace, found: Survey) -> Splits:
    """The splits that a run's steps use: those of the workspace if they are of the catalogue as it is now.

    Args:
        ws: the run's workspace, or one that is not made yet.
        found: the survey of the catalogue, which decides where the workspace has no splits.
    """
    manifest = read_manifest(ws.store, layout.SPLITS)
    finished = manifest is not None and manifest.made_from == _made_from(found.digest).digests(ws)
    return _read(ws) if finished else found.splits


def _stated(ws: Workspace) -> dict[str, Split]:
    path = ws.config.data.labels
    return stated_splits(read_labels(path, ws.schema, ws.listings), path) if path else {}


def splits_of(ws: Workspace) -> Splits:
    """The splits of a run's catalogue, which preflight has decided; where it has not, they are decided here.

    Raises:
        InputError: the labels of a listing name different splits.
        AttrloopError: as `survey`.
    """
    ensure_splits(ws)
    return _read(ws)


def ensure_splits(ws: Workspace) -> None:
    """Decides the splits where preflight has not.

    Raises:
        InputError: the labels of a listing name different splits.
    """
    if read_manifest(ws.store, layout.SPLITS) is None:
        make_splits(ws)


def photographs_of(ws: Workspace) -> pl.DataFrame:
    """The photographs of a run's listings: columns listing, photograph and key, as `Survey.photographs`."""
    ensure_splits(ws)
    return read_parquet(intact(ws.store, f"{layout.SPLITS}/{layout.PHOTOGRAPHS_FILE}"))


def _read(ws: Workspace) -> Splits:
    rows = read_parquet(intact(ws.store, f"{layout.SPLITS}/{layout.SPLITS_FILE}"))
    rows = rows if "was" in rows.columns else rows.with_columns(was=pl.lit(None, pl.String))  # of an earlier version
    listing = rows["listing"]
    mixed, contradicted = rows.drop_nulls("mixed"), rows.drop_nulls("was")
    return Splits(
        dict(zip(listing, rows["split"].cast(pl.String), strict=True)),
        dict(zip(listing, rows["group"], strict=True)),
        dict(zip(mixed["listing"], mixed["mixed"], strict=True)),
        dict(zip(contradicted["listing"], contradicted["was"].cast(pl.String), strict=True)),
    )
