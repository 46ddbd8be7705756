"""Files are written as a whole or not at all, and a full disk is explained."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from attrloop.components.errors import InputError
from attrloop.components.storage.files import replacing, write_atomic
from attrloop.components.storage.parquet import write_parquet
from tests.disk import full_disk

FRAME = pl.DataFrame({"listing": ["a", "b", "c"], "agreement": [0.5, None, 1.0]})
WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_atomic(path, b"new"),
    "frame": lambda path: write_parquet(FRAME, path),
    "lazy frame": lambda path: write_parquet(FRAME.lazy(), path),
}


@pytest.mark.parametrize("frame", [FRAME, FRAME.lazy()], ids=["frame", "lazy frame"])
def test_a_frame_is_read_as_it_was_written(frame: pl.DataFrame | pl.LazyFrame, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "rows.parquet"
    for groups in (None, 1):
        write_parquet(frame, path, row_group_size=groups)
        assert pl.read_parquet(path).equals(FRAME) and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))
def test_a_full_disk_is_explained_and_leaves_what_was_there(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"old")
    with full_disk(), pytest.raises(InputError, match=rf"{path}: no space left on the device. Free some space"):
        write(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.read_bytes() != b"old"


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        raise KeyError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_frame_that_cannot_be_computed_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(pl.exceptions.PolarsError):
        write_parquet(FRAME.lazy().select(pl.col("listing").cast(pl.Int64)), tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []
