"""The record of what an adapter has learnt from: every listing that it or an ancestor was trained on or chosen by.

It lies beside the adapter's folder and travels with it: from stage to stage, into MLflow, and into the runs that
start from the adapter. It is no part of the adapter's digest: the same weights are the same adapter.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import polars as pl

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Label
from attrloop.components.errors import fail
from attrloop.components.gold import splits
from attrloop.components.gold.groups import MANY
from attrloop.components.gold.sampled import sampled_ids
from attrloop.components.run import layout
from attrloop.components.run.manifest import has, intact
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.parquet import (
    parquet_metadata,
    parquet_schema,
    read_parquet,
    scan_parquet,
    write_parquet,
)
from attrloop.components.storage.store import Store

Role = Literal["trained", "chosen"]
COLUMNS: dict[str, Any] = {"listing": pl.String, "role": pl.String, "photograph": pl.UInt64}
_UNKNOWN, _ROWS = "unknown", 100_000  # key of the file's metadata; rows of a row group, which is what is read at once


@dataclass(frozen=True)
class Learnt:
    """What an adapter and its ancestors have learnt from.

    Attributes:
        file: Parquet, with a row for each listing, role and photograph: the listing's id; `trained` or `chosen`; and
            what the photograph is known by (see `marks_of`), null where it is not known.
        unknown: names of ancestors without a record: earlier versions trained them, so `file` may lack listings.
    """

    file: Path
    unknown: tuple[str, ...]

    @staticmethod
    def read(file: Path) -> "Learnt":
        """Opens a record.

        Raises:
            InputError: the file is damaged.
        """
        try:
            found = parquet_metadata(file).get(_UNKNOWN, "[]")
            columns = parquet_schema(file)
            unknown = tuple(map(str, json.loads(found)))
        except (pl.exceptions.PolarsError, ValueError, OSError) as error:
            raise _damaged(file, str(error).splitlines()[0]) from error
        if columns != COLUMNS:
            raise _damaged(file, f"its columns are {', '.join(columns)}")
        return Learnt(file, unknown)

    def matches(self, gold: pl.DataFrame) -> pl.DataFrame:
        """Which of these listings were learnt from, or share a photograph with one that was.

        Args:
            gold: columns listing and photograph, as `marks_of` returns them.

        Returns:
            Columns listing, role and other: the listing that was learnt from, which is the listing itself or one that
            shares a photograph with it.
        """
        ids = gold.select("listing").unique()
        found = [pl.DataFrame(schema={"listing": pl.String, "role": pl.String, "other": pl.String})]
        keys = gold.drop_nulls().rename({"listing": "own"})
        for rows in self._rows():
            found.append(rows.join(ids, on="listing", how="semi").select("listing", "role", other="listing"))
            shared = rows.join(keys, on="photograph").filter(pl.col("own") != pl.col("listing"))
            found.append(shared.select("role", listing="own", other="listing").select("listing", "role", "other"))
        return pl.concat(found).unique().sort("listing", "role", "other")

    def _rows(self) -> Iterator[pl.DataFrame]:
        """The rows, a row group at a time."""
        rows = scan_parquet(self.file)
        for start in range(0, int(rows.select(pl.len()).collect().item()), _ROWS):
            yield rows.slice(start, _ROWS).collect()


def _damaged(file: Path, what: str) -> Exception:
    return fail(str(file), f"not a record of what an adapter has learnt from: {what}", "Train or fetch it again")


def marks_of(ws: Workspace, listings: Iterable[str]) -> pl.DataFrame:
    """What the photographs of listings are known by.

    Returns:
        Columns listing and photograph, as in a record. A listing has a row for the digest of each photograph, and one
        for each key that the photograph's copies have in common; or one with null where no photograph is known. A
        photograph that more than `groups.MANY` listings show says nothing of them, and is left out.
    """
    ids = pl.DataFrame({"listing": sorted(set(listings))}, schema={"listing": pl.String})
    rows = splits.photographs_of(ws).filter(pl.col("listing").n_unique().over("key") <= MANY)
    rows = rows.join(ids, on="listing", how="semi")
    known = pl.concat([rows.select("listing", photograph=name) for name in ("photograph", "key")]).unique()
    return ids.join(known, on="listing", how="left")


def learnt_by_labels(ws: Workspace) -> dict[Role, set[str]]:
    """What the labels of a run teach: those of train are trained on, those of validation decide its choices."""
    return {
        "trained": {label.listing for label in ws.labels("train")},
        "chosen": {label.listing for label in ws.labels("validation")},
    }


def learnt_by_iteration(ws: Workspace) -> dict[Role, set[str]]:
    """What an iteration learns from: besides labels, the unlabelled listings that it samples chains for."""
    found = learnt_by_labels(ws)
    return {**found, "trained": found["trained"] | (sampled_ids(ws) - found["chosen"])}


def learnt_by_files(store: Store) -> dict[Role, set[str]]:
    """What the files of a run tell that an earlier version made: its labels and the pairs of its iterations.

    That is what it has learnt from itself, and nothing of its ancestors.
    """
    labels = read_rows(intact(store, layout.LABELS), Label, []) if has(store, layout.LABELS) else []
    chosen = {label.listing for _, label in labels if label.split == "validation"}
    trained = {label.listing for _, label in labels if label.split == "train"}
    for k in count(1):
        path = layout.pairs_file(f"iteration-{k}")
        if not has(store, path):
            break
        trained |= set(read_parquet(intact(store, path), columns=["listing"])["listing"])
    return {"trained": trained, "chosen": chosen}


def rows_of(learnt: Mapping[Role, Iterable[str]]) -> pl.LazyFrame:
    """Rows of `COLUMNS` for ids of listings whose photographs are not known."""
    rows = [(listing, role, None) for role, ids in learnt.items() for listing in ids]
    return pl.LazyFrame(rows, schema=COLUMNS, orient="row")


def write_learnt(ws: Workspace, file: Path, learnt: dict[Role, set[str]], source: str = "") -> None:
    """Writes the record of an adapter.

    Args:
        ws: the workspace of the run that trains it.
        file: the record; see `layout.LEARNT`.
        learnt: ids of the listings that this training learns from.
        source: path in the workspace of the adapter that it is trained from, whose record is taken over; "" for none.
    """
    photographs = marks_of(ws, set().union(*learnt.values()))
    own = rows_of(learnt).drop("photograph").join(photographs.lazy(), on="listing", how="left").select(*COLUMNS)
    before = record_of(ws.store, source) if source else None
    rows = [own, *([scan_parquet(before.file)] if before else [])]
    write_record(file, rows, unknown_ancestors(ws.store, source))


def write_record(file: Path, rows: Iterable[pl.LazyFrame], unknown: Iterable[str]) -> None:
    """Writes rows of `COLUMNS` as a record, sorted and each once."""
    every = pl.concat([pl.LazyFrame(schema=COLUMNS), *rows]).unique().sort(*COLUMNS)
    write_parquet(every, file, row_group_size=_ROWS, metadata={_UNKNOWN: json.dumps(sorted(set(unknown)))})


def unknown_ancestors(store: Store, adapter: str) -> tuple[str, ...]:
    """The ancestors of an adapter in a workspace whose history is unknown, itself among them; "" has none."""
    if not adapter:
        return ()
    record, run = record_of(store, adapter), store.root.rpartition("/")[2]
    return record.unknown if record else (f"{run}/{layout.trained_by(adapter).removesuffix('/dpo')}",)


def unknown_history(names: Iterable[str]) -> str:
    """Says of ancestors without a record what follows, and what to do."""
    return (
        f"it is not known what {' and '.join(names)} learnt from (made by an earlier version of attrloop): some of "
        "that may be among the gold. Train a new adapter with `attrloop run` to be sure"
    )


def record_of(store: Store, adapter: str) -> Learnt | None:
    """The record of an adapter in a workspace, by the adapter's path; None where an earlier version trained it."""
    path = layout.learnt(adapter)
    return Learnt.read(intact(store, path)) if has(store, path) else None
