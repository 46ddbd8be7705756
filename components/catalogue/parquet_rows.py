"""Reads the rows of Parquet files from outside, which may be far larger in memory than on the disk.

Four kilobytes can hold three gigabytes: one long text that is meant for three thousand rows. How much a file can hold
is found out from its metadata and its dictionaries, only as many rows as fit are decoded at a time, and a file that
holds far more than its size lets expect is refused.

It is read with pyarrow, because polars aborts the process on some damaged files.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from attrloop.components.documents import LONGEST, Malformed, fault_of, suspicious
from attrloop.components.errors import fail

_BATCH = 10_000  # most rows in memory at a time
_STEP = 16_000_000  # most bytes of these rows, roughly
_LISTS = 100  # rows at a time of lists whose size is not known
_FREE, _RATIO = 64_000_000, 500  # bytes that any file may hold, and times its size; catalogues hold 5 to 50 times
_SLOT = 16  # bytes that a value takes at least
_ENCODER = json.JSONEncoder(default=str, check_circular=False)
_DICTIONARY, _DELTA = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}, "DELTA_BYTE_ARRAY"


class _BombError(Exception):
    """A file holds more than its budget."""


def parquet_rows(path: str | Path, file: Path, kept: Collection[str]) -> Iterator[tuple[int, Any]]:
    """Yields (row number from 1, row) of a file; for a row that cannot be used, what is wrong with it.

    Args:
        path: the file, as people know it.
        file: the local copy.
        kept: columns whose nulls are kept. In other columns a null means that the row has no such key.

    Raises:
        InputError: not a Parquet file, or one that holds far more than its size lets expect.
    """
    import pyarrow as pa  # takes a moment to load

    budget, held = _FREE + _RATIO * file.stat().st_size, 0
    try:
        for number, row in enumerate(_rows(file, budget), 1):
            if isinstance(row, dict):
                row = {key: _filled(value) for key, value in row.items() if value is not None or key in kept}
                text = _ENCODER.encode(row)  # by far the fastest way to find its size and odd characters
                held += len(text)
                if held > budget:
                    raise _BombError
                why = f"longer than {LONGEST:,} bytes" if len(text) > LONGEST else suspicious(text) and fault_of(row)
                row = Malformed(why, "Correct the row", value=row) if why else row
            yield number, row
    except _BombError as error:
        what = f"holds more than {budget / 1e6:,.0f} MB, far more than its size lets expect"
        raise fail(str(path), what, "If that is meant, write it as JSONL") from error
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, RecursionError) as error:
        what = f"not a Parquet file that can be read ({str(error).splitlines()[0]})"
        raise fail(str(path), what, "Write the file again") from error


def _filled(value: Any) -> Any:
    """A struct without its nulls; every struct has the fields of all rows."""
    return {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value


class _Leaf(NamedTuple):
    """A column of one row group.

    Attributes:
        path: its name, with dots for what lies in lists and structs.
        values: how many there are.
        size: bytes of the encoded values, not compressed.
        width: bytes of a value; 0 if they differ.
        encodings: of its pages.
        repeated: whether it lies in a list, so that one row can have any number of values.
    """

    path: str
    values: int
    size: int
    width: int
    encodings: frozenset[str]
    repeated: bool

    @property
    def least(self) -> int:
        """Bytes that its values take in memory at least."""
        return max(self.size, self.values * max(self.width, _SLOT))

    @property
    def grows(self) -> bool:
        """Whether a text that is stored once may be meant for many values."""
        packed = self.encodings & {*_DICTIONARY, _DELTA}
        return bool(packed) and not self.width and self.values * self.size > _STEP


def _rows(file: Path, budget: int) -> Iterator[dict[str, Any] | Malformed]:
    import pyarrow.parquet as pq

    with file.open("rb") as opened, file.open("rb") as again:
        source = pq.ParquetFile(opened)
        groups = [list(_leaves(source, k)) for k in range(source.metadata.num_row_groups)]
        if sum(leaf.least for leaves in groups for leaf in leaves) > budget:
            raise _BombError
        packed = {leaf.path for leaves in groups for leaf in leaves if leaf.encodings & _DICTIONARY and not leaf.width}
        texts = pq.ParquetFile(again, metadata=source.metadata, read_dictionary=sorted(packed))
        for k, leaves in enumerate(groups):
            average = sum(leaf.least for leaf in leaves) // max(1, source.metadata.row_group(k).num_rows)
            fitting = [_fitting(texts, k, leaf, budget) for leaf in leaves if leaf.grows]
            rows = max(1, min(_BATCH, _STEP // max(1, average), *fitting))
            for batch in source.iter_batches(rows, row_groups=[k]):
                yield from _of_batch(batch)


def _of_batch(batch: Any) -> Iterator[dict[str, Any] | Malformed]:
    try:
        yield from batch.to_pylist(maps_as_pydicts="strict")
    except (KeyError, UnicodeDecodeError) as error:
        if batch.num_rows > 1:
            for k in range(batch.num_rows):
                yield from _of_batch(batch.slice(k, 1))
            return
        row = {}
        for name in batch.schema.names:
            with suppress(UnicodeDecodeError):
                row[name] = batch.column(name)[0].as_py()
        if isinstance(error, KeyError):
            yield Malformed(f"a map has a key twice ({error.args[0]})", "Keep one of them", value=row)
        else:
            yield Malformed("a text is not UTF-8", "Write the text as UTF-8", value=row)


def _leaves(source: Any, group: int) -> Iterator[_Leaf]:
    chunks = source.metadata.row_group(group)
    for k in range(chunks.num_columns):
        chunk, about = chunks.column(k), source.schema.column(k)
        width = 0 if about.physical_type == "BYTE_ARRAY" else max(about.length, 1)
        size, repeated = chunk.total_uncompressed_size, about.max_repetition_level > 0
        yield _Leaf(about.path, chunk.num_values, size, width, frozenset(chunk.encodings), repeated)


def _fitting(texts: Any, group: int, leaf: _Leaf, budget: int) -> int:
    """How many rows can be decoded at a time.

    Raises:
        _BombError: what is in lists is more than the budget, or its size cannot be found out.
    """
    if _DELTA in leaf.encodings:  # each value may begin as the one before
        if leaf.repeated and leaf.values * leaf.size > budget:
            raise _BombError
        return _STEP // leaf.size if not leaf.repeated else _LISTS
    first = next(texts.iter_batches(1, row_groups=[group], columns=[leaf.path]), None)
    _, longest = _lengths(first) if first else (0, 0)
    if not leaf.repeated or leaf.values * longest <= _STEP:
        return _STEP // max(1, longest)
    total = most = 0
    for batch in texts.iter_batches(_BATCH, row_groups=[group], columns=[leaf.path]):
        size, _ = _lengths(batch)
        most, total = max(most, size), total + size
        if total > budget:
            raise _BombError
    return _BATCH * _STEP // max(_STEP, most)


def _lengths(batch: Any) -> tuple[int, int]:
    """Bytes of all texts of a batch that has one leaf, and of the longest text that is stored for it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(0)
    while not pa.types.is_dictionary(column.type):
        column = column.flatten()
        column = column[0] if isinstance(column, list) else column  # of a struct, the one field that was asked for
    lengths = pc.binary_length(column.dictionary)
    return pc.sum(lengths.take(column.indices)).as_py() or 0, pc.max(lengths).as_py() or 0
