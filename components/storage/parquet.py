"""Parquet files that are written in one step."""

from pathlib import Path

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
        frame.lazy().sink_parquet(temporary, row_group_size=row_group_size, metadata=metadata, engine="streaming")
