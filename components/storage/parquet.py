"""Parquet files by their names, written in one step. No other module hands the path of a file to polars.

Polars reads `[2]`, `*` and `?` in a path as a pattern, `~` as the home folder, and `x=1` as a column.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from attrloop.components.storage.files import replacing


def write_parquet(
    frame: pl.DataFrame | pl.LazyFrame,
    path: Path,
    row_group_size: int | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Creates or replaces a local Parquet file. A lazy frame streams to the disk and is never in memory as a whole.

    Args:
        frame: the rows.
        path: the file.
        row_group_size: rows per row group; None leaves the choice to polars.
        metadata: of the file, by name.

    Raises:
        InputError: the disk is full.
    """
    with replacing(path) as temporary:
        frame.lazy().sink_parquet(
            temporary.absolute(), row_group_size=row_group_size, metadata=metadata, engine="streaming"
        )


def read_parquet(files: Path | Sequence[Path], columns: list[str] | None = None) -> pl.DataFrame:
    """The rows of a local file, or of several one after another.

    Args:
        files: their paths.
        columns: those to read; None for all.
    """
    return pl.read_parquet(_named(files), columns=columns, glob=False, hive_partitioning=False)


def scan_parquet(files: Path | Sequence[Path]) -> pl.LazyFrame:
    """The rows of local files as `read_parquet`, read when they are needed."""
    return pl.scan_parquet(_named(files), glob=False, hive_partitioning=False)


def parquet_schema(file: Path) -> dict[str, pl.DataType]:
    """The columns of a local file with their types."""
    return dict(scan_parquet(file).collect_schema())


def parquet_metadata(file: Path) -> dict[str, str]:
    """The metadata of a local file, by name."""
    with file.open("rb") as opened:
        return pl.read_parquet_metadata(opened)


def _named(files: Path | Sequence[Path]) -> Any:
    return files.absolute() if isinstance(files, Path) else [file.absolute() for file in files]
