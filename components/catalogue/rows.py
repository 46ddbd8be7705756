"""Reads the rows of JSONL and Parquet files one at a time. Errors name the file that cannot be read."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from polars.exceptions import PolarsError

from attrloop.components.errors import fail
from attrloop.components.storage import inputs
from attrloop.components.storage.parquet import scan_parquet

_BATCH = 10_000  # rows of Parquet in memory at a time


def raw_rows(path: str | Path, kept: Collection[str] = ()) -> Iterator[tuple[int, Any]]:
    """Yields (line or row number from 1, decoded row) of a file; for a line that is not JSON, the exception.

    Args:
        path: a local path or a URI. Its suffix decides the format.
        kept: columns whose nulls are kept. In other columns a null of Parquet means that the row has no such key.

    Raises:
        InputError: a JSONL file that is not UTF-8, or a file that is not Parquet.
    """
    yield from _parquet(path, kept) if str(path).endswith(".parquet") else _jsonl(path)


def _parquet(path: str | Path, kept: Collection[str]) -> Iterator[tuple[int, Any]]:
    try:
        batches = scan_parquet(inputs.local(path)).collect_batches(chunk_size=_BATCH, maintain_order=True)
        for k, row in enumerate((row for batch in batches for row in batch.iter_rows(named=True)), 1):
            yield k, {key: _filled(value) for key, value in row.items() if value is not None or key in kept}
    except PolarsError as error:
        what = f"not a Parquet file that can be read ({str(error).splitlines()[0]})"
        raise fail(str(path), what, "Write the file again") from error


def _filled(value: Any) -> Any:
    """A struct without its nulls; polars gives every struct the fields of all rows."""
    return {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def _jsonl(path: str | Path) -> Iterator[tuple[int, Any]]:
    with inputs.local(path).open("rb") as file:  # text mode reads ahead and would name an earlier line
        for k, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield k, json.loads(line.decode())
                except json.JSONDecodeError as error:
                    yield k, error
                except UnicodeDecodeError as error:
                    what = f"not UTF-8 text (byte {error.start} of the line)"
                    raise fail(f"{path}:{k}", what, "Save the file as UTF-8") from error
