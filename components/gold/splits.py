"""The split of every listing of a catalogue, and the gold listings that must not be judged by."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import GOLD_SPLITS, SPLITS, Split
from attrloop.components.gold.split import drawn_split, rank
from attrloop.components.gold.stated import stated_splits
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.parquet import write_parquet

VERSION = 1  # of how splits are decided
_COLUMNS: dict[str, Any] = {
    "listing": pl.String,
    "split": pl.Enum(SPLITS),
    "rank": pl.Float64,
    "group": pl.String,
    "mixed": pl.String,
}


@dataclass(frozen=True)
class Splits:
    """The splits of a catalogue's listings.

    Attributes:
        of: the split of every listing, by id. The unlabelled listings that a run learns from are those of `train`; the
            unlabelled ones of the gold splits are never learnt from, so that they can become gold later.
        group: the key of the group that a listing shares photographs with, by id.
        mixed: gold listings that share a photograph with a listing of another split that is trained on or chosen by,
            and that listing's id. Neither changes its split; the gold listing is left out of every comparison.
        contradicted: listings for which a gold split is stated although earlier runs may have trained on them or chosen
            by them, and the remembered split, which they keep.
    """

    of: Mapping[str, Split]
    group: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, str] = field(default_factory=dict)
    contradicted: Mapping[str, Split] = field(default_factory=dict)


def decide(
    listings: Iterable[str],
    stated: Mapping[str, Split] | None = None,
    remembered: Mapping[str, Split] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Splits:
    """Decides the split of every listing.

    A remembered listing keeps its split; a stated one gets what is stated, unless that would turn what has been
    learnt from into gold. A new listing joins its group; a new group is drawn.

    Args:
        listings: ids of all listings.
        stated: splits that the labels file names, by listing.
        remembered: splits that earlier runs decided, by listing; also of listings that are gone.
        groups: the key of the group of every listing that shares photographs, also of remembered ones that are gone.
    """
    stated, remembered, groups = stated or {}, remembered or {}, groups or {}
    # The splits in the order of `SPLITS`: a listing of one may move to an earlier one, never to a later one.
    fixed = {
        listing: min((found[listing] for found in (remembered, stated) if listing in found), key=SPLITS.index)
        for listing in (remembered.keys() | stated.keys())
    }
    members: dict[str, dict[Split, str]] = {}  # by group, a listing of each split
    for listing in sorted(fixed):
        members.setdefault(groups.get(listing, listing), {}).setdefault(fixed[listing], listing)
    of: dict[str, Split] = {}
    group: dict[str, str] = {}
    for listing in listings:
        group[listing] = key = groups.get(listing, listing)
        own = fixed.get(listing)
        # Among members of several splits a new listing takes the earliest one, which spoils no further gold.
        of[listing] = own or min(members.get(key, ()), key=SPLITS.index, default=drawn_split(key))
    mixed = {
        listing: other
        for listing, split in of.items()
        if split in GOLD_SPLITS and (other := _learnt_from(members.get(group[listing], {}), split))
    }
    contradicted = {
        listing: fixed[listing]
        for listing, split in stated.items()
        if SPLITS.index(split) > SPLITS.index(fixed[listing])
    }
    return Splits(of, group, mixed, contradicted)


def _learnt_from(members: Mapping[Split, str], split: Split) -> str:
    """A member that is trained on, or chosen by, where this split must not have been; "" when there is none."""
    return next((members[other] for other in SPLITS[: SPLITS.index(split)] if other in members), "")


def make_splits(ws: Workspace) -> Splits:
    """Decides the splits of a run's catalogue, unless they are decided.

    Raises:
        InputError: the labels of a listing name different splits.
    """
    started = time.monotonic()
    artifact = begin(ws)
    if artifact.manifest is not None:
        return _read(ws)
    path = ws.config.data.labels
    given = read_labels(path, ws.schema, ws.listings) if path else []
    splits = decide(ws.listings, stated_splits(given, path))
    rows = [
        (listing, split, rank(listing), splits.group[listing], splits.mixed.get(listing))
        for listing, split in splits.of.items()
    ]
    write_parquet(pl.DataFrame(rows, schema=_COLUMNS, orient="row"), artifact.folder / layout.SPLITS_FILE)
    counts = {split: list(splits.of.values()).count(split) for split in SPLITS}
    artifact.finish(
        "splits", {**counts, "mixed": len(splits.mixed), "seconds": time.monotonic() - started}, [layout.SPLITS_FILE]
    )
    return splits


def begin(ws: Workspace) -> Artifact:
    """Opens the artifact of a catalogue's splits."""
    return Artifact.begin(ws, layout.SPLITS, MadeFrom(VERSION, reads=("catalogue", "photographs", "values")))


def splits_of(ws: Workspace) -> Splits:
    """The splits of a run's catalogue, which preflight has decided; where it has not, they are decided here.

    Raises:
        InputError: the labels of a listing name different splits.
    """
    settle(ws)
    return _read(ws)


def settle(ws: Workspace) -> None:
    """Decides the splits where preflight has not.

    Raises:
        InputError: the labels of a listing name different splits.
    """
    if read_manifest(ws.store, layout.SPLITS) is None:
        make_splits(ws)


def _read(ws: Workspace) -> Splits:
    rows = pl.read_parquet(ws.store.file(f"{layout.SPLITS}/{layout.SPLITS_FILE}"), glob=False)
    listing = rows["listing"].to_list()
    mixed = rows.filter(pl.col("mixed").is_not_null())
    return Splits(
        dict(zip(listing, rows["split"].cast(pl.String).to_list(), strict=True)),
        dict(zip(listing, rows["group"].to_list(), strict=True)),
        dict(zip(mixed["listing"].to_list(), mixed["mixed"].to_list(), strict=True)),
    )
