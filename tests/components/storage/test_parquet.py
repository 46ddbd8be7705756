"""A Parquet file is opened by its name, whatever characters that has."""

from pathlib import Path

import polars as pl
import pytest

from attrloop.components.storage.parquet import (
    parquet_metadata,
    parquet_schema,
    read_parquet,
    scan_parquet,
    write_parquet,
)

NAMES = (
    "shop[2]",
    "*",
    "what?x",
    "my%20shop",
    "~",
    "~root",
    "a{b,c}",
    "x=1",
    "s3:",
    "-",
    "$HOME",
    "Läden",
    "two\nlines",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_written_and_read_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, frame = Path(name, f"{name} rows.parquet"), pl.DataFrame({"listing": ["a"], "count": [1]})
    # What the name would also fit as a pattern.
    for other in ("shop2", "anything", "whatsx", "ab"):
        write_parquet(pl.DataFrame({"listing": ["b"], "count": [2]}), Path(other, f"{other} rows.parquet"))
    write_parquet(frame, file, metadata={"by": "us"})
    assert [found.name for found in (tmp_path / name).iterdir()] == [file.name]
    assert read_parquet(file).equals(frame) and read_parquet(file, columns=["listing"]).columns == ["listing"]
    assert scan_parquet(file).collect().equals(frame)
    assert read_parquet([file, file]).height == scan_parquet([file, file]).collect().height == 2
    assert parquet_schema(file) == frame.schema and parquet_metadata(file)["by"] == "us"
