"""Reads the rows of JSONL and Parquet files one at a time. Errors name the file that cannot be read."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from attrloop.components.catalogue.parquet_rows import parquet_rows
from attrloop.components.documents import LONGEST, Malformed, parse_json, text_of
from attrloop.components.storage import inputs


def raw_rows(path: str | Path, kept: Collection[str] = ()) -> Iterator[tuple[int, Any]]:
    """Yields (line or row number from 1, decoded row) of a file; in place of a row that cannot be read, a `Malformed`.

    Args:
        path: a local path or a URI. Its suffix decides the format.
        kept: columns whose nulls are kept. In other columns a null of Parquet means that the row has no such key.

    Raises:
        InputError: a JSONL file that is not UTF-8, a file that is not Parquet, or Parquet that holds far more than its
            size lets expect.
    """
    if str(path).endswith(".parquet"):
        yield from parquet_rows(path, inputs.local(path), kept)
        return
    with inputs.local(path).open("rb") as file:  # text mode reads ahead and would name an earlier line
        for k, line in enumerate(_lines(file), 1):
            if len(line) > LONGEST:
                yield k, Malformed(f"longer than {LONGEST:,} bytes", "Write one JSON object per line")
            elif text := _text(line, f"{path}:{k}").strip():
                yield k, _row(text)


def _text(line: bytes, where: str) -> str:
    try:
        return text_of(line, " of the line")
    except Malformed as error:
        raise error.problem(where) from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than `LONGEST`, a beginning that is longer too."""
    while line := file.readline(LONGEST + 1):
        yield line
        while len(line) > LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST + 1)


def _row(text: str) -> Any:
    try:
        return parse_json(text)
    except Malformed as error:
        is_json = not isinstance(error.__cause__, json.JSONDecodeError)
        remedy = error.remedy if is_json else "Write one JSON object per line"
        return Malformed(error.what, remedy, value=error.value)
