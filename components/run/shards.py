"""A sharded step: its work is divided into shards, one Parquet file each, and several workers may make them at once.

Which shards there are, and what is in them, does not depend on the number of workers. A worker's share `k/n` is every
n-th shard from the k-th on. A finished shard is not made again. The worker that makes the last one finishes the
artifact.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import polars as pl

from attrloop.components.errors import AttrloopError, fail
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.manifest import intact_files
from attrloop.components.run.progress import progress
from attrloop.components.storage.parquet import read_parquet, scan_parquet, write_parquet
from attrloop.components.storage.store import Store

Item = TypeVar("Item")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shards:
    """The shards of an artifact.

    Attributes:
        artifact: the artifact that they belong to.
        count: how many items, e.g. listings, there are to work on.
        size: items of one shard; the last shard may have fewer.
        unit: what an item is, for people.
        folder: where the shards are below the artifact's folder; "" for the folder itself.
    """

    artifact: Artifact
    count: int
    size: int
    unit: str = "listings"
    folder: str = ""

    @property
    def names(self) -> list[str]:
        """The shards' files below the artifact's folder, in order."""
        numbers = range(-(-self.count // self.size))
        return [str(Path(self.folder, f"shard-{number:05d}.parquet")) for number in numbers]

    def divide(self, workers: int) -> list[str]:
        """The share of each worker. There are no more workers than shards, and at least one: `["1/2", "2/2"]`."""
        number = max(min(workers, len(self.names)), 1)
        return [f"{k + 1}/{number}" for k in range(number)]

    def make(
        self, title: str, items: Iterable[Item], work: Callable[[list[Item]], pl.DataFrame], share: str = "1/1"
    ) -> None:
        """Makes the shards of a share that are not finished.

        Args:
            title: name of the work, for the progress.
            items: all of them, in order. They are read once, a shard at a time.
            work: makes the rows of a shard.
            share: `k/n`.

        Raises:
            InputError: no such share, a full disk.
        """
        worker, workers = parse_share(share)
        source, here = iter(items), self.artifact.folder
        mine = range(worker, len(self.names), workers)
        with progress(title, sum(min(self.size, self.count - k * self.size) for k in mine), self.unit) as bar:
            for number, name in enumerate(self.names):
                shard = list(islice(source, self.size))
                if number not in mine:
                    continue
                if not self.artifact.kept(name):
                    write_parquet(work(shard), here / name)
                    self.artifact.keep(name)
                bar.advance(len(shard))

    def read(self) -> pl.DataFrame:
        """The rows of all shards, in order."""
        return pl.concat([read_parquet(self.artifact.folder / name) for name in self.names])

    def finish(self, kind: str, max_skipped: float, seconds: float) -> None:
        """Finishes the artifact if all shards are there, by whichever worker. A listing without rows counts as skipped.

        Args:
            kind: what a row is, e.g. `chains`.
            max_skipped: the largest fraction of listings that may be skipped.
            seconds: how long this worker took.

        Raises:
            AttrloopError: more listings were skipped.
        """
        artifact = self.artifact
        missing = {f"{artifact.path}/{name}" for name in self.names} - set(artifact.store.list(artifact.path))
        if missing:
            log.info("%d of %d shards are left for other workers to make", len(missing), len(self.names))
            return
        folder = artifact.store.folder(artifact.path)  # with what other workers have written
        if damaged := [name for name in self.names if not artifact.kept(name)]:
            where, what = f"{artifact.store.root}/{artifact.path}", f"{len(damaged)} shards are damaged: {damaged[0]}"
            raise fail(where, what, "Start the same command again: they are made again")
        rows = found = 0
        for name in self.names:
            sizes = scan_parquet(folder / name).select(pl.len(), pl.col("listing").n_unique()).collect().row(0)
            rows, found = rows + sizes[0], found + sizes[1]
        skipped = self.count - found
        if skipped > max_skipped * self.count:
            what = f"{skipped} of {self.count} listings have images that cannot be read (see the log)"
            raise AttrloopError(f"{what}. Mend them or raise data.max_bad_images.")
        counts = {"listings": found, "skipped": skipped, kind: rows, "shards": len(self.names), "seconds": seconds}
        artifact.finish(kind, counts, self.names)


def finished_shards(store: Store, path: str) -> list[Path]:
    """The local files of a finished artifact's shards, in order.

    Raises:
        InputError: the artifact is not finished, or a shard is damaged.
    """
    return intact_files(store, path)


def parse_share(share: str) -> tuple[int, int]:
    """The worker, counted from 0, and the number of workers.

    Raises:
        InputError: not of the form `k/n` with 1 <= k <= n.
    """
    first, _, second = share.partition("/")
    if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise fail(f"share {share!r}", "not a share of the work", "Write k/n with 1 <= k <= n, e.g. 1/4")
    return int(first) - 1, int(second)
