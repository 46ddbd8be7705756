"""The records that attrloop reads and writes, and readers whose errors name the file, line and id of every bad row.

`Listing` and `Label` are what users write. `Chain`, `Pair` and `Prediction` are what the loop makes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrloop.components.catalogue.rows import raw_rows
from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.storage import inputs

UNKNOWN_LISTING = "a label for an unknown listing"
ALL_IMAGES = -1  # the view that shows all images of a listing at once


class Record(BaseModel):
    """A row of a file. Unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Listing(Record):
    """One product listing.

    Attributes:
        id: unique in the catalogue.
        vertical: one of the schema's.
        images: one or more. Each is a path relative to the listings file, or a URL on a host or in a bucket that the
            config allows.
        title: shown to the annotator and, if the config says so, to the model.
        metadata: known facts, e.g. brand or size; shown as the title is.
    """

    id: str = Field(min_length=1)
    vertical: str
    images: tuple[str, ...] = Field(min_length=1)
    title: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class Label(Record):
    """The value of one attribute of one listing.

    Attributes:
        listing: its id.
        attribute: its name.
        value: canonical (see `Attribute.canonical`).
        rationale: a short sentence on the evidence; may be empty when a person labelled it.
        source: `api` for the annotator, `human` for a person.
        cost: in US dollars.
        split: `train` for SFT and labelled pairs, or a gold split, which is never trained on: `validation` decides
            every choice of a run, `test` is read once, at the end. None where the user leaves it open: it is then
            drawn, one for all labels of a listing.
    """

    listing: str
    attribute: str
    value: str
    rationale: str = ""
    source: Literal["api", "human"] = "human"
    cost: float = Field(0.0, ge=0)
    split: Literal["train", "validation", "test"] | None = None


class Chain(Record):
    """One sampled chain: reasoning, then an answer.

    Attributes:
        listing: id of the listing.
        vertical: of the listing.
        attribute: the attribute that was asked about.
        view: index of the image that the chain saw, or `ALL_IMAGES`.
        chain: its number among the chains of (listing, attribute, view), from 0.
        text: the whole chain.
        answer: canonical; None when it is not in the list or the chain is unfinished.
        logprob: log-probability of the chain under the sampling model at temperature 1, in nats.
        tokens: number of tokens, the end token included.
    """

    listing: str
    vertical: str
    attribute: str
    view: int
    chain: int
    text: str
    answer: str | None
    logprob: float
    tokens: int


class Pair(Record):
    """One row of DPO training data.

    Attributes:
        listing: id of the listing.
        vertical: of the listing.
        attribute: the attribute that was asked about.
        view: the image that the rejected chain saw. Both chains are trained on it.
        chosen: text of the preferred chain.
        rejected: text of the other chain; None for an anchor, which has the NLL term only.
        chosen_answer: canonical.
        rejected_answer: canonical; None when it is not in the list, and for an anchor.
        weight: of the row's loss, in (0, 1].
        agreement: support of the chosen answer among the sample's chains, in [0, 1]; 1 for labelled listings.
        source: `consensus`, or `anchor` where all chains agree. For a labelled listing `label` (its label against a
            wrong chain) or `label_anchor`.
    """

    listing: str
    vertical: str
    attribute: str
    view: int
    chosen: str
    rejected: str | None
    chosen_answer: str
    rejected_answer: str | None
    weight: float = Field(gt=0, le=1)
    agreement: float = Field(ge=0, le=1)
    source: Literal["consensus", "anchor", "label", "label_anchor"]


LABELLED_SOURCES = ("label", "label_anchor")  # rows of labelled listings


class Prediction(Record):
    """One greedy prediction beside its gold label.

    Attributes:
        listing: id of the listing.
        vertical: of the listing.
        attribute: the attribute that was asked about.
        split: of the gold label.
        gold: canonical.
        answer: canonical; None when it is not in the list.
        confidence: the answer's probability in [0, 1]: exp of the summed log-probability of the answer's tokens.
        text: the whole chain.
        tokens: number of generated tokens.
    """

    listing: str
    vertical: str
    attribute: str
    split: Literal["validation", "test"]
    gold: str
    answer: str | None
    confidence: float = Field(ge=0, le=1)
    text: str
    tokens: int


Row = TypeVar("Row", bound=Record)
_TYPES: dict[Any, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64}


def polars_schema(record: type[Record]) -> dict[str, Any]:
    """The Parquet columns of a flat record. Fields that are neither int nor float become text."""
    fields = {name: field.annotation for name, field in record.model_fields.items()}
    return {name: _TYPES.get(kind, pl.String) for name, kind in fields.items()}


def to_frame(rows: Iterable[Record], record: type[Record]) -> pl.DataFrame:
    """Flat records as a data frame. It has the record's columns even without rows."""
    return pl.DataFrame([row.model_dump() for row in rows], schema=polars_schema(record), orient="row")


def nullable(record: type[Record]) -> set[str]:
    """The fields of a record that may be None."""
    return {name for name, field in record.model_fields.items() if type(None) in get_args(field.annotation)}


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
        found: faults are appended here, and bad rows are left out.

    Raises:
        InputError: the file is missing, is not in UTF-8, or is a damaged Parquet file.
    """
    if not inputs.exists(path):
        raise fail(
            str(path), f"no such file of {record.__name__.lower()}s", "Give the path of a .jsonl or .parquet file"
        )
    for line, raw in raw_rows(path, nullable(record)):
        if isinstance(raw, Exception):
            found.append(Problem(f"{path}:{line}", f"not valid JSON ({raw})", "Write one JSON object per line"))
            continue
        try:
            yield line, record.model_validate(raw)
        except ValidationError as error:
            name = raw.get("id") or raw.get("listing") or "no id" if isinstance(raw, dict) else "not an object"
            for fault in error.errors():
                key = ".".join(map(str, fault["loc"])) or "the row"
                what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
                found.append(Problem(f"{path}:{line} ({name})", f"{key}: {what}", "Correct this field"))


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
        elif (value := attributes[label.attribute].canonical(label.value)) is None:
            names = ", ".join(attributes[label.attribute].names)
            found.append(
                Problem(
                    where,
                    f"{label.value!r} is not a value of {label.attribute}",
                    f"Use one of: {names}; or add it to the schema",
                )
            )
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
