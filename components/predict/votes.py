"""What the chains of a (listing, attribute) agree on, for prediction."""

import polars as pl
from pydantic import Field

from attrloop.components.catalogue.prompts import rationale_of
from attrloop.components.catalogue.records import QueuePart, Record, polars_schema
from attrloop.components.catalogue.vote_kinds import with_kind

_ITEM = ["listing", "attribute"]


class CataloguePrediction(Record):
    """The answer to one attribute of one listing, by vote.

    Attributes:
        answer: canonical; None when no chain answered from the list.
        confidence: the fraction of all chains that gave the answer, in [0, 1].
        chains: how many voted.
        rationale: of the most probable chain that gave the answer; "" without one.
    """

    listing: str
    vertical: str
    attribute: str
    answer: str | None
    confidence: float = Field(ge=0, le=1)
    chains: int
    rationale: str


class QueuedPrediction(CataloguePrediction):
    """An answer that a person is asked about.

    Attributes:
        part: of the queue: `uncertain` for one of the least certain answers, `drawn` for one drawn at random for gold.
    """

    part: QueuePart = "uncertain"


def decide(chains: pl.DataFrame) -> pl.DataFrame:
    """Counts votes: the answer of most chains wins.

    Answers off the list count against every value. `not_visible` wins only if no chain saw anything.

    Args:
        chains: rows of `records.Chain`, with all chains of a (listing, attribute) or none.

    Returns:
        Rows of `CataloguePrediction`, by listing and attribute. A tie goes to the answer that comes first by name.
    """
    samples = chains.group_by(_ITEM).agg(pl.col("vertical").first(), chains=pl.len())
    text = pl.col("text").sort_by("logprob", descending=True).first()
    answers = (
        with_kind(chains)
        .filter(pl.col("kind") != "off_list")
        .group_by(*_ITEM, "answer", "kind")
        .agg(votes=pl.len(), text=text)
    )
    ranked = answers.sort(pl.col("kind") == "abstain", -pl.col("votes").cast(pl.Int64), "answer")
    winners = ranked.group_by(_ITEM, maintain_order=True).first()
    found = samples.join(winners, on=_ITEM, how="left").with_columns(
        confidence=(pl.col("votes") / pl.col("chains")).fill_null(0.0),
        rationale=pl.col("text").fill_null("").map_elements(rationale_of, return_dtype=pl.String),
    )
    return found.select(pl.col(name).cast(kind) for name, kind in polars_schema(CataloguePrediction).items()).sort(
        _ITEM
    )
