"""The register: where the splits of listings are remembered, for all runs of a catalogue.

It is a folder, beside the runs or where `data.splits` says, of two lists. Each is made of numbered Parquet files that
are only ever added: `listings/` has the split of every listing that a run has met, `photographs/` what is known of
every photograph, so that only new and changed ones are read again.
"""

import io
from functools import cached_property
from typing import Any

import polars as pl

from attrloop.components.catalogue.records import Split
from attrloop.components.errors import AttrloopError, Problem, fail
from attrloop.components.run.config import RunConfig
from attrloop.components.storage import inputs
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.probe import probe
from attrloop.components.storage.store import Store

LISTINGS: dict[str, Any] = {"listing": pl.String, "split": pl.String, "photographs": pl.List(pl.UInt64)}
PHOTOGRAPHS: dict[str, Any] = {
    "name": pl.String,
    "version": pl.String,
    "photograph": pl.UInt64,
    "fingerprint": pl.Binary,
}


class Entries:
    """A list of rows that grows by numbered files, each written once by exactly one process.

    Args:
        store: of the register.
        name: of the list's folder.
        columns: of a row.
    """

    def __init__(self, store: Store, name: str, columns: dict[str, Any]) -> None:
        self.store, self.name, self._columns = store, name, columns
        self._read: list[pl.DataFrame] = []

    def rows(self) -> pl.DataFrame:
        """All rows in the order in which they were added, with the number of their `entry`.

        Raises:
            InputError: a file of the register is missing or damaged.
        """
        files = [path for path in self.store.list(self.name) if path.endswith(".parquet")]
        for path in files[len(self._read) :]:
            if path != (expected := self._path(len(self._read) + 1)):
                raise _damaged(f"{self.store.root}/{expected}", "this file is missing")
            self._read.append(self._open(path))
        numbered = (rows.with_columns(entry=pl.lit(number)) for number, rows in enumerate(self._read, 1))
        return pl.concat([pl.DataFrame(schema={**self._columns, "entry": pl.Int32}), *numbered])

    def add(self, rows: pl.DataFrame) -> bool:
        """Adds rows after those that were read; False when another process has added some since, which are to be read.

        Raises:
            AttrloopError: the register cannot be written.
        """
        content = io.BytesIO()
        rows.select(*self._columns).write_parquet(content)
        if not self.store.create(self._path(len(self._read) + 1), content.getvalue()):
            return False
        self._read.append(rows.select(*self._columns))
        return True

    def _path(self, number: int) -> str:
        return f"{self.name}/{number:08d}.parquet"

    def _open(self, path: str) -> pl.DataFrame:
        where = f"{self.store.root}/{path}"
        try:
            found = pl.read_parquet(io.BytesIO(self.store.read(path)))
        except pl.exceptions.PolarsError as error:
            raise _damaged(where, str(error).splitlines()[0]) from error
        if found.schema != pl.Schema(self._columns):
            raise _damaged(where, f"its columns are {', '.join(found.columns)}")
        return found


def _damaged(where: str, what: str) -> AttrloopError:
    remedy = "Restore it from a backup, or set data.splits to another folder: earlier splits are then not remembered"
    return fail(where, f"the register of splits is damaged: {what}", remedy)


class Register:
    """The splits that runs have decided, and the photographs that they have seen.

    Args:
        root: a folder, local or in a bucket.
    """

    def __init__(self, root: str) -> None:
        self.store = open_store(root)

    @cached_property
    def listings(self) -> Entries:
        """The split of listings, and their photographs. The last row of a listing holds."""
        return Entries(self.store, "listings", LISTINGS)

    @cached_property
    def photographs(self) -> Entries:
        """What is known of photographs. The last row of a name holds."""
        return Entries(self.store, "photographs", PHOTOGRAPHS)

    def check(self) -> list[Problem]:
        """What keeps a run from using the register, found out by creating a small file there."""
        where, remedy = f"register of splits {self.store.root}", "Set data.splits to a folder that can be written"
        return [
            Problem(where, problem.what, remedy)
            for problem in self.store.check() or probe(self.store, creates_only=True)
        ]


def register_of(config: RunConfig, workspace: str) -> Register:
    """The register of a run: the one that `data.splits` names, else the folder `splits` beside the workspace."""
    return Register(config.data.splits or inputs.join(inputs.parent(workspace), "splits"))


def remembered_splits(rows: pl.DataFrame) -> dict[str, Split]:
    """The split of every listing of the register, whose rows are in the order of adding: the last one of each holds."""
    return dict(zip(rows["listing"].to_list(), rows["split"].to_list(), strict=True))
