"""A sharded step: any number of workers, killed at any time, make the same shards once."""

from pathlib import Path

import polars as pl
import pytest

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.shards import Shards, finished_shards, parse_share
from attrloop.components.storage.opening import open_store

LISTINGS = [f"mug-{k}" for k in range(11)]
FILES = [f"shard-{k:05d}.parquet" for k in range(4)]


class Work:
    """Makes two rows of every listing but those it cannot read, and remembers what it was asked for."""

    def __init__(self, *unreadable: str) -> None:
        self.unreadable, self.asked = unreadable, list[list[str]]()

    def __call__(self, shard: list[str]) -> pl.DataFrame:
        self.asked.append(shard)
        names = [name for name in shard if name not in self.unreadable for _ in range(2)]
        return pl.DataFrame({"listing": names}, schema={"listing": pl.String})


def shards_in(folder: Path) -> Shards:
    return Shards(Artifact(open_store(folder), "it/chains", {}), len(LISTINGS), 3)


def test_the_last_worker_finishes_and_nothing_is_made_twice(tmp_path: Path) -> None:
    work = Work()
    assert shards_in(tmp_path).names == FILES
    for share, wanted in (("2/2", [LISTINGS[3:6], LISTINGS[9:]]), ("1/2", [LISTINGS[:3], LISTINGS[6:9]])):
        assert read_manifest(open_store(tmp_path), "it/chains") is None
        work.asked.clear()
        shards_in(tmp_path).make("chains", LISTINGS, work, share)
        assert work.asked == wanted
        shards_in(tmp_path).finish("chains", 0.0, 1.0)
    manifest = read_manifest(open_store(tmp_path), "it/chains")
    assert manifest and manifest.files == FILES
    assert manifest.counts == {"listings": 11, "skipped": 0, "chains": 22, "shards": 4, "seconds": 1.0}
    shards_in(tmp_path).make("chains", iter(LISTINGS), work)
    assert len(work.asked) == 2, "finished shards are left alone"
    assert shards_in(tmp_path).read()["listing"].unique(maintain_order=True).to_list() == LISTINGS
    assert finished_shards(open_store(tmp_path), "it/chains") == [tmp_path / "it/chains" / name for name in FILES]


def test_a_shard_that_a_killed_worker_left_half_written_is_made_again(tmp_path: Path) -> None:
    shards = shards_in(tmp_path)
    with pytest.raises(ZeroDivisionError):
        shards.make("chains", LISTINGS, lambda shard: pl.DataFrame({"listing": shard}) if "mug-0" in shard else 1 / 0)  # type: ignore[arg-type,return-value]
    (shards.artifact.folder / ".tmp-shard-00001.parquet").write_bytes(b"half")
    shards.finish("chains", 0.0, 1.0)
    assert read_manifest(open_store(tmp_path), "it/chains") is None
    shards_in(tmp_path).make("chains", LISTINGS, work := Work())
    assert work.asked == [LISTINGS[3:6], LISTINGS[6:9], LISTINGS[9:]]


def test_listings_without_rows_are_counted_and_capped(tmp_path: Path) -> None:
    shards_in(tmp_path).make("chains", LISTINGS, Work("mug-1", "mug-10"))
    told = r"2 of 11 listings have images that cannot be read .* Mend them or raise data.max_bad_images"
    with pytest.raises(AttrloopError, match=told):
        shards_in(tmp_path).finish("chains", 0.1, 1.0)
    with pytest.raises(InputError, match="not finished"):
        finished_shards(open_store(tmp_path), "it/chains")
    shards_in(tmp_path).finish("chains", 0.2, 1.0)
    manifest = read_manifest(open_store(tmp_path), "it/chains")
    assert manifest and (manifest.counts["listings"], manifest.counts["skipped"]) == (9, 2)


@pytest.mark.parametrize(("workers", "shares"), [(0, ["1/1"]), (2, ["1/2", "2/2"]), (9, ["1/4", "2/4", "3/4", "4/4"])])
def test_every_worker_has_something_to_do(tmp_path: Path, workers: int, shares: list[str]) -> None:
    assert shards_in(tmp_path).divide(workers) == shares


@pytest.mark.parametrize("share", ["", "2", "0/2", "3/2", "a/b", "1/2/3"])
def test_what_is_no_share_is_refused(share: str) -> None:
    with pytest.raises(InputError, match="not a share of the work"):
        parse_share(share)
