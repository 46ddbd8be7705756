"""Readers of records whose errors name the file, line and id of every bad row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from attrloop.components.catalogue.prompts import LONGEST_RATIONALE, LONGEST_VALUE, cut
from attrloop.components.catalogue.records import Label, Listing, Record
from attrloop.components.catalogue.rows import raw_rows
from attrloop.components.catalogue.schema import Schema
from attrloop.components.documents import Malformed
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.storage import inputs
from attrloop.components.validation import faults_of, told

UNKNOWN_LISTING = "a label for an unknown listing"

_ENOUGH = 1_000  # faults after which reading stops: a file of another kind has one in every row
_EXCERPT = 80  # characters of an id or a value
_LIST = '"a.jpg", "b.jpg"'
_OBJECT, _ROW = '{"brand": "Acme"}', '{"name": "value", ...}, one to a line'
Row = TypeVar("Row", bound=Record)


def read_rows(path: str | Path, record: type[Row], problems: list[Problem] | None = None) -> list[tuple[int, Row]]:
    """Reads a JSONL or Parquet file.

    Args:
        path: a local path or a URI of an object store. Its suffix decides the format.
        record: the model of a row.
        problems: if given, faults are appended here and bad rows are left out.

    Returns:
        (line from 1, record) of every row.

    Raises:
        InputError: the file is missing or cannot be read, or (without `problems`) rows are bad; it names them all.
    """
    found: list[Problem] = [] if problems is None else problems
    rows = list(iter_rows(path, record, found))
    if problems is None and found:
        raise InputError(found)
    return rows


def iter_rows(path: str | Path, record: type[Row], found: list[Problem]) -> Iterator[tuple[int, Row]]:
    """Reads a JSONL or Parquet file like `read_rows`, but a row at a time.

    Args:
        path: a local path or a URI of an object store. Its suffix decides the format.
        record: the model of a row.
        found: faults are appended here, and bad rows are left out. After a thousand faults reading stops.

    Raises:
        InputError: the file is missing, or as `raw_rows`.
    """
    if not inputs.exists(path):
        raise fail(
            str(path), f"no such file of {record.__name__.lower()}s", "Give the path of a .jsonl or .parquet file"
        )
    for line, raw in raw_rows(path, _nullable(record)):
        if len(found) >= _ENOUGH:
            return
        if isinstance(raw, Malformed):
            found.append(Problem(f"{path}:{line}{_named(raw.value)}", raw.what, raw.remedy))
            continue
        try:
            yield line, record.model_validate(raw)
        except ValidationError as error:
            found += [_problem(f"{path}:{line}{_named(raw)}", fault) for fault in faults_of(error)]


def _problem(where: str, fault: Any) -> Problem:
    """The problem of a fault that pydantic found in a row."""
    key, kind, said = ".".join(map(str, fault["loc"])), fault["type"], fault["input"]
    what, remedy = told(fault)
    one = isinstance(said, str | int | float) and len(shown := json.dumps(said, ensure_ascii=False)) <= _EXCERPT
    if kind in ("dict_type", "model_type"):
        what, remedy = "not an object", f"Write an object: {_OBJECT if key else _ROW}"
    elif kind in ("tuple_type", "list_type"):
        remedy = f"Write a list: [{shown if one else _LIST}]"
    elif kind == "string_type" and one:
        remedy = f'Write a text: "{shown}"'
    elif kind.startswith(("datetime", "timezone")):
        what, remedy = "not a date and time with a time zone", "Write it like 2026-11-26T03:10:05Z"
    elif kind.startswith("float") or kind == "finite_number":
        what, remedy = "not a number", "Write a number that is finite, such as 0.5"
    return Problem(where, f"{key or 'the row'}: {what}", remedy)


def _named(raw: Any) -> str:
    """The id of a row that has a fault, in brackets; "" if nothing is known of the row."""
    if raw is None:
        return ""
    name = raw.get("id") or raw.get("listing") or "no id" if isinstance(raw, dict) else "not an object"
    return f" ({str(name)[:_EXCERPT]})"


def _nullable(record: type[Record]) -> set[str]:
    """The fields of a record that may be None."""
    return {name for name, field in record.model_fields.items() if type(None) in get_args(field.annotation)}


def read_listings(path: str | Path, schema: Schema, problems: list[Problem] | None = None) -> list[Listing]:
    """Reads listings and checks that ids are unique and verticals are in the schema.

    Args:
        path: a JSONL or Parquet file: a local path or a URI of an object store.
        schema: the catalogue's.
        problems: if given, faults are appended here and bad rows are left out.

    Raises:
        InputError: (without `problems`) with every fault.
    """
    found: list[Problem] = [] if problems is None else problems
    seen: dict[str, int] = {}
    listings = []
    for line, listing in read_rows(path, Listing, found):
        where = f"{path}:{line} (listing {listing.id})"
        if listing.id in seen:
            found.append(
                Problem(where, f"duplicate id, first on line {seen[listing.id]}", "Give every listing its own id")
            )
        elif listing.vertical not in schema.verticals:
            found.append(
                Problem(
                    where,
                    f"unknown vertical {listing.vertical!r}",
                    f"Use one of: {', '.join(schema.verticals)}; or add it to the schema",
                )
            )
        else:
            listings.append(listing)
        seen.setdefault(listing.id, line)
    if problems is None and found:
        raise InputError(found)
    return listings


def read_labels(
    path: str | Path, schema: Schema, listings: dict[str, Listing], problems: list[Problem] | None = None
) -> list[Label]:
    """Reads labels, checks listing, attribute and value, and brings the values into canonical form.

    Args:
        path: a JSONL or Parquet file: a local path or a URI of an object store.
        schema: the catalogue's.
        listings: all listings, by id.
        problems: if given, faults are appended here and bad rows are left out.

    Raises:
        InputError: (without `problems`) with every fault.
    """
    found: list[Problem] = [] if problems is None else problems
    seen: dict[tuple[str, str], int] = {}
    labels = []
    for line, label in read_rows(path, Label, found):
        where = f"{path}:{line} (listing {label.listing})"
        listing = listings.get(label.listing)
        attributes = schema.verticals[listing.vertical].attributes if listing else {}
        if listing is None:
            found.append(Problem(where, UNKNOWN_LISTING, "Add the listing or remove the label"))
        elif label.attribute not in attributes:
            found.append(
                Problem(
                    where,
                    f"{listing.vertical} has no attribute {label.attribute!r}",
                    f"Use one of: {', '.join(attributes)}",
                )
            )
        elif len(label.value) > LONGEST_VALUE or (value := attributes[label.attribute].canonical(label.value)) is None:
            what = f"{cut(label.value, 100)!r} is not a value of {label.attribute}"
            found.append(Problem(where, what, attributes[label.attribute].hint))
        elif len(label.rationale) > LONGEST_RATIONALE:
            what = f"the rationale has {len(label.rationale):,} characters, more than {LONGEST_RATIONALE:,}"
            found.append(Problem(where, what, "Shorten it to a sentence or two, or leave it out"))
        elif (label.listing, label.attribute) in seen:
            first = seen[label.listing, label.attribute]
            found.append(
                Problem(
                    where,
                    f"second label for {label.attribute}, first on line {first}",
                    "Keep one label per listing and attribute",
                )
            )
        else:
            seen[label.listing, label.attribute] = line
            labels.append(label.model_copy(update={"value": value}))
    if problems is None and found:
        raise InputError(found)
    return labels
