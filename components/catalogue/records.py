"""What attrloop reads and writes, one pydantic model a record; readers that name file, line and id when a row is bad."""

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
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listing(Record):
    """One product listing.

    Attributes:
        id: unique in the catalogue.
        images: one or several: paths relative to the listings file, or URLs on an allowed host or in an allowed bucket.
        metadata: known facts, e.g. brand or size; shown to the annotator and, if the config says so, to the model.
    """

    id: str = Field(min_length=1)
    vertical: str
    images: tuple[str, ...] = Field(min_length=1)
    title: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class Label(Record):
    """One attribute of one listing, as an annotator saw it.

    Attributes:
        value: canonical (see `Attribute.canonical`).
        rationale: a short sentence on the evidence; may be empty for a human's label.
        source: `api`, or `human`.
        cost: in US dollars.
        split: `train` (SFT and labelled pairs), or one of the gold splits, which are never trained on: `validation` (every choice made
            in a run) and `test` (read once, at the end). None in files that users write: the split is then drawn by listing.
    """

    listing: str
    attribute: str
    value: str
    rationale: str = ""
    source: Literal["api", "human"] = "human"
    cost: float = Field(0.0, ge=0)
    split: Literal["train", "validation", "test"] | None = None


class Chain(Record):
    """One sampled reasoning-and-answer chain.

    Attributes:
        view: index of the image that the chain saw, or `ALL_IMAGES`.
        chain: its number among the chains of (listing, attribute, view).
        answer: canonical, None when off the list or unfinished.
        logprob: sum over its tokens under the sampling model at temperature 1, in nats.
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
        view: the image that the rejected chain saw, and on which both are trained.
        rejected: None for an anchor, which carries the NLL term only.
        weight: of the row's loss, in (0, 1].
        agreement: support of the chosen answer among the sample's chains, in [0, 1]; 1 for labelled listings.
        source: `consensus`, `anchor` (unanimous), or of a labelled listing `label` (against a wrong chain) and `label_anchor`.
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
        gold: canonical.
        answer: canonical, None when off the list.
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
    """The Parquet columns of a flat record: str, int and float fields; everything else is text."""
    fields = {name: field.annotation for name, field in record.model_fields.items()}
    return {name: _TYPES.get(kind, pl.String) for name, kind in fields.items()}


def to_frame(rows: Iterable[Record], record: type[Record]) -> pl.DataFrame:
    """Flat records as a data frame with the record's columns, also when there are no rows."""
    return pl.DataFrame([row.model_dump() for row in rows], schema=polars_schema(record), orient="row")


def nullable(record: type[Record]) -> set[str]:
    """The fields of a record that may be None."""
    return {name for name, field in record.model_fields.items() if type(None) in get_args(field.annotation)}


def read_rows(path: str | Path, record: type[Row], problems: list[Problem] | None = None) -> list[tuple[int, Row]]:
    """Reads a JSONL or Parquet file into (line, record).

    Args:
        path: the file, a local path or a gs:// URI; its suffix decides the format.
        record: the model of a row.
        problems: faults are appended here when given, and the bad rows left out; otherwise they raise.

    Raises:
        InputError: for a missing file or one that cannot be read, or (without `problems`) for all faulty rows at once.
    """
    found: list[Problem] = [] if problems is None else problems
    rows = list(iter_rows(path, record, found))
    if problems is None and found:
        raise InputError(found)
    return rows


def iter_rows(path: str | Path, record: type[Row], found: list[Problem]) -> Iterator[tuple[int, Row]]:
    """Reads a JSONL or Parquet file as `read_rows` does, a row at a time; faults are appended to `found`, and the bad rows left out.

    Raises:
        InputError: for a missing file, one in another encoding, or a damaged Parquet file.
    """
    if not inputs.exists(path):
        raise fail(
            str(path), f"no such file of {record.__name__.lower()}s", "Give the path of a .jsonl or .parquet file"
        )
    for line, raw in raw_rows(path, nullable(record)):
        if isinstance(raw, Exception):
            found.append(Problem(f"{path}:{line}", f"not valid JSON ({raw})", "Write one JSON object a line"))
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
    """Reads listings and checks them against the schema: unique ids, known verticals.

    Raises:
        InputError: all problems at once, unless a list to append them to is given.
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
    """Reads labels, brings their values into canonical form and checks listing, attribute and value.

    Raises:
        InputError: all problems at once, unless a list to append them to is given.
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
