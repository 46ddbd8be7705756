"""A Parquet file that holds far more than its size lets expect is refused, in little memory; others are read."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Listing
from attrloop.components.errors import InputError, Problem

MB = 1_000_000
LONG = "a" * MB


def repeated(text: str, count: int, dense: bool = False) -> pa.Array:
    found = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([text]))
    return found.cast(pa.string()) if dense else found


def listings(count: int, **columns: Any) -> pa.Table:
    fields = {"id": repeated("m-1", count), "vertical": repeated("mug", count)}
    images = pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), repeated("a.png", count))
    return pa.table(fields | {"images": images} | columns)


def dictionary(path: Path) -> None:
    """One title of 1 MB for 3,000 listings: 3 GB."""
    pq.write_table(listings(3_000, title=repeated(LONG, 3_000)), path, compression="zstd")


def prefixes(path: Path) -> None:
    """The same, where each title is said to begin as the one before and to end there."""
    table = listings(100, title=repeated(LONG, 100, dense=True))
    encoding = {"title": "DELTA_BYTE_ARRAY"}
    with pq.ParquetWriter(
        path, table.schema, compression="zstd", use_dictionary=["id"], column_encoding=encoding
    ) as out:
        for _ in range(5):
            out.write_table(table)


def plain(path: Path) -> None:
    """80 titles of 1 MB that compress well."""
    pq.write_table(listings(80, title=repeated(LONG, 80, dense=True)), path, compression="zstd", use_dictionary=False)


def rows(path: Path) -> None:
    """5,000,000 rows that are all the same, in a few bytes each thousand."""
    pq.write_table(listings(5_000_000).select(["id", "vertical"]), path, compression="zstd")


def images(path: Path) -> None:
    """One listing with 10,000,000 photographs."""
    count = 10_000_000
    many = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), repeated("a.png", count))
    pq.write_table(listings(1, images=many), path, compression="zstd")


def long_images(path: Path) -> None:
    """One listing with 3,000 photographs whose names have 1 MB."""
    many = pa.ListArray.from_arrays(pa.array([0, 3_000], pa.int32()), repeated(LONG, 3_000))
    pq.write_table(listings(1, images=many), path, compression="zstd")


def facts(path: Path) -> None:
    """3,000 listings with a struct that has a text of 1 MB."""
    brand = pa.StructArray.from_arrays([repeated(LONG, 3_000)], ["brand"])
    pq.write_table(listings(3_000, metadata=brand), path, compression="zstd")


def blobs(path: Path) -> None:
    """3,000 values of a fixed width of 1 MB."""
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 70, pa.int32()), pa.array([LONG.encode()], pa.binary(MB)))
    pq.write_table(listings(70, title=one.cast(pa.binary(MB))), path, compression="zstd")


BOMBS: list[Callable[[Path], None]] = [dictionary, prefixes, plain, rows, images, long_images, facts, blobs]
CHILD = """
import resource, sys
from pathlib import Path
import pyarrow.compute, pyarrow.parquet
from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Listing
from attrloop.components.errors import InputError
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for path in sys.argv[1:]:
    try:
        read_rows(path, Listing, [])
        print(path, "was read")
    except InputError as error:
        print(error.problems[0])
print(peak() - before)
"""


def test_a_bomb_is_refused_by_name_in_little_memory(tmp_path: Path) -> None:
    paths = [tmp_path / f"{bomb.__name__}.parquet" for bomb in BOMBS]
    for bomb, path in zip(BOMBS, paths, strict=True):
        bomb(path)
        assert path.stat().st_size < 200_000
    told = subprocess.run(
        [sys.executable, "-c", CHILD, *paths], capture_output=True, text=True, check=True, env=os.environ
    )
    *problems, grown = told.stdout.splitlines()
    for path, problem in zip(paths, problems, strict=True):
        assert problem.startswith(f"{path}: holds more than "), problem
        assert problem.endswith("far more than its size lets expect. If that is meant, write it as JSONL.")
    assert int(grown) < 200, "MB"


def test_a_catalogue_that_compresses_well_is_no_bomb(tmp_path: Path) -> None:
    count, draw = 10_000, random.Random(0)
    wanted = [
        {
            "id": f"m-{k}",
            "vertical": draw.choice(["mug", "cup"]),
            "images": [f"photos/m-{k}-{j}.jpg" for j in range(k % 4 + 1)],
            "title": "The very same title of every listing of this shop, which is not short " * 3,
            "metadata": {"brand": "oak", "size": "S" if k % 2 else None},
        }
        for k in range(count)
    ]
    frame = pl.DataFrame(wanted)
    frame.write_parquet(tmp_path / "polars.parquet", row_group_size=3_000)
    table = frame.to_arrow()
    delta = {"column_encoding": {"title": "DELTA_BYTE_ARRAY"}, "use_dictionary": False}
    pq.write_table(table, tmp_path / "arrow.parquet", compression="zstd")
    pq.write_table(table, tmp_path / "delta.parquet", compression="zstd", **delta)
    ids = [row["id"] for row in wanted]
    for name in ("polars", "arrow", "delta"):
        path = tmp_path / f"{name}.parquet"
        found = [listing for _, listing in read_rows(path, Listing)]
        assert [listing.id for listing in found] == ids and path.stat().st_size < MB
        assert found[3].metadata == {"brand": "oak", "size": "S"} and found[4].metadata == {"brand": "oak"}
        assert found[3].images[3] == "photos/m-3-3.jpg"


def test_a_row_that_is_too_long_or_holds_a_nul_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    titles = ["fine", "x" * 11 * MB, "cut \0 here", "fine too", None]
    rows = [{"id": f"m-{k}", "vertical": "mug", "images": ["a.png"], "title": title} for k, title in enumerate(titles)]
    pl.DataFrame(rows).write_parquet(tmp_path / "l.parquet")
    found: list[Problem] = []
    assert [row.id for _, row in read_rows(tmp_path / "l.parquet", Listing, found)] == ["m-0", "m-3", "m-4"]
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in found] == [
        "l.parquet:2 (m-1): longer than 10,000,000 bytes. Correct the row.",
        "l.parquet:3 (m-2): a text holds a NUL character. Correct the row.",
    ]


def test_facts_can_be_a_map_and_a_key_that_is_there_twice_is_named(tmp_path: Path) -> None:
    facts = [[("brand", "oak"), ("size", "S")], [("size", "S"), ("size", "L")], []]
    table = listings(3, id=pa.array(["m-0", "m-1", "m-2"]), metadata=pa.array(facts, pa.map_(pa.string(), pa.string())))
    pq.write_table(table, tmp_path / "l.parquet")
    found: list[Problem] = []
    read = [row.metadata for _, row in read_rows(tmp_path / "l.parquet", Listing, found)]
    assert read == [{"brand": "oak", "size": "S"}, {}]
    (problem,) = map(str, found)
    assert "l.parquet:2 (m-1): " in problem and "'size'" in problem and "twice" in problem


def test_a_text_that_is_no_utf8_is_named_with_its_row(tmp_path: Path) -> None:
    titles = pa.array([b"fine", b"caf\xe9", b"fine too"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(listings(3, id=pa.array(["m-0", "m-1", "m-2"]), title=titles), tmp_path / "l.parquet")
    found: list[Problem] = []
    assert [row.title for _, row in read_rows(tmp_path / "l.parquet", Listing, found)] == ["fine", "fine too"]
    (problem,) = map(str, found)
    assert problem.endswith("l.parquet:2 (m-1): a text is not UTF-8. Write the text as UTF-8.")


def test_a_damaged_file_is_named_whatever_the_damage(tmp_path: Path) -> None:
    pl.DataFrame(
        [{"id": f"m-{k}", "vertical": "mug", "images": ["a.png"], "title": "é"} for k in range(9)]
    ).write_parquet(tmp_path / "l.parquet")
    data, draw = (tmp_path / "l.parquet").read_bytes(), random.Random(1)
    named = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        (tmp_path / "l.parquet").write_bytes(damaged)
        try:
            read_rows(tmp_path / "l.parquet", Listing)
        except InputError as error:
            named += "l.parquet" in str(error)
    assert named > 50
