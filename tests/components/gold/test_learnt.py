"""The record of what an adapter and its ancestors have learnt from."""

from pathlib import Path

import polars as pl
import pytest

from attrloop.components.errors import InputError
from attrloop.components.gold.learnt import COLUMNS, Learnt, write_record


def record(file: Path, rows: list[tuple[str, str, int | None]], unknown: tuple[str, ...] = ()) -> Learnt:
    write_record(file, [pl.LazyFrame(rows, schema=COLUMNS, orient="row")], unknown)
    return Learnt.read(file)


def gold(rows: list[tuple[str, int | None]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"listing": pl.String, "photograph": pl.UInt64}, orient="row")


def test_listings_are_found_by_id_and_by_a_shared_photograph(tmp_path: Path) -> None:
    top = 2**64 - 1
    learnt = record(
        tmp_path / "learnt.parquet",
        [("a", "trained", top), ("b", "chosen", 2), ("b", "chosen", 3), ("c", "trained", None)],
    )
    found = learnt.matches(gold([("a", 9), ("c", None), ("new", 3), ("other", 4), ("far", top)]))
    assert found.rows() == [
        ("a", "trained", "a"),
        ("c", "trained", "c"),
        ("far", "trained", "a"),
        ("new", "chosen", "b"),
    ]


def test_the_same_rows_are_the_same_file_whatever_their_order(tmp_path: Path) -> None:
    rows: list[tuple[str, str, int | None]] = [(f"m{k % 50}", "trained", k % 7) for k in range(500)]
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    record(one, rows)
    record(two, rows[::-1] + rows)
    assert one.read_bytes() == two.read_bytes()


def test_unknown_ancestors_travel_with_the_record(tmp_path: Path) -> None:
    learnt = record(tmp_path / "learnt.parquet", [], ("models:/x/3", "models:/x/1", "models:/x/3"))
    assert learnt.unknown == ("models:/x/1", "models:/x/3")
    assert learnt.matches(gold([("a", 1)])).is_empty()


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", None], ids=["empty", "cut", "another file"])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "learnt.parquet"
    if content is None:
        pl.DataFrame({"id": ["a"]}).write_parquet(file)
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"learnt\.parquet: not a record of what an adapter has learnt from"):
        Learnt.read(file)
