"""The records that attrloop reads and writes.

`Listing` and `Label` are what users write. `Chain`, `Pair` and `Prediction` are what the loop makes.
"""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Split = Literal["train", "validation", "test"]
GoldSplit = Literal["test", "validation"]  # never trained on; the one that decides headlines comes first
SPLITS: tuple[Split, ...] = get_args(Split)
GOLD_SPLITS: tuple[str, ...] = get_args(GoldSplit)
LOOP_SPLITS: tuple[Split, ...] = ("train", "validation")  # what the loop learns from or decides by
QueuePart = Literal["uncertain", "drawn"]  # of a review queue: the least certain answers, or answers drawn at random
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
        source: `api` for the annotator, `human` for a person, `review` for a person who was asked because the model
            was not certain. Such labels are not a fair sample: they are trained on, and never become gold.
        cost: in US dollars.
        split: `train` for SFT and labelled pairs, or a gold split, which is never trained on: `validation` decides
            every choice of a run, `test` is read once, at the end. None where the user leaves it open: the listing
            then decides it (see `gold`).
        reviewer: who reviewed it, as Label Studio exports it: the number or the e-mail address of a user.
        reviewed_at: when, with the time zone.
    """

    listing: str
    attribute: str
    value: str
    rationale: str = ""
    source: Literal["api", "human", "review"] = "human"
    cost: float = Field(0.0, ge=0, allow_inf_nan=False)
    split: Split | None = None
    reviewer: str | None = None
    reviewed_at: AwareDatetime | None = None


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
    split: GoldSplit
    gold: str
    answer: str | None
    confidence: float = Field(ge=0, le=1)
    text: str
    tokens: int


_TYPES: dict[Any, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64}


def polars_schema(record: type[Record]) -> dict[str, Any]:
    """The Parquet columns of a flat record. Fields that are neither int nor float become text."""
    fields = {name: field.annotation for name, field in record.model_fields.items()}
    return {name: _TYPES.get(kind, pl.String) for name, kind in fields.items()}


def to_frame(rows: Iterable[Record], record: type[Record]) -> pl.DataFrame:
    """Flat records as a data frame. It has the record's columns even without rows."""
    return pl.DataFrame([row.model_dump() for row in rows], schema=polars_schema(record), orient="row")
