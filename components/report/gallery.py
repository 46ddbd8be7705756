"""The report's examples: gold listings with their image and what each stage answered."""

import base64
from dataclasses import dataclass

import polars as pl

from attrloop.components.catalogue.prompts import rationale_of
from attrloop.components.digests import digest
from attrloop.components.errors import InputError
from attrloop.components.results.reader import Results

SIDE = 168  # pixels of an example's longer side: about 4 kB each
KINDS = {  # kind -> fraction of the examples, and heading
    "gained": (0.4, "Wrong before, right now"),
    "lost": (0.25, "Right before, wrong now"),
    "wrong": (0.25, "Wrong in every stage"),
    "right": (0.1, "Right all along"),
}


@dataclass(frozen=True)
class Example:
    """One question about one gold listing.

    Attributes:
        kind: a key of `KINDS`.
        listing: its id.
        vertical: the listing's vertical.
        attribute: what is asked.
        gold: the right answer.
        image: a data URI; "" when the image can no longer be read.
        answers: (stage, answer or "off-list", whether it is right), in the order of the stages.
        text: the reasoning of the best stage.
        confidence: the best stage's confidence, in [0, 1].
    """

    kind: str
    listing: str
    vertical: str
    attribute: str
    gold: str
    image: str
    answers: list[tuple[str, str, bool]]
    text: str
    confidence: float


def examples(results: Results, count: int) -> dict[str, list[Example]]:
    """At most `count` examples by kind.

    They are flips of the best stage against the reference in both directions, errors that no stage corrected, and a few
    right answers. Verticals take turns, and a listing is shown once. The choice depends only on the run's seed.
    """
    chosen: dict[str, list[Example]] = {}
    used: set[str] = set()
    pool = _pool(results)
    for kind, (fraction, _) in KINDS.items():
        rows = [row for row in pool if row["kind"] == kind]
        picked: list[Example] = []
        for row in rows:
            if len(picked) < round(fraction * count) and row["listing"] not in used:
                used.add(row["listing"])
                picked.append(_example(results, row))
        chosen[kind] = picked
    return chosen


def _pool(results: Results) -> list[dict]:
    """Every gold sample with its kind and the stages' answers, verticals taking turns."""
    keys = ["listing", "vertical", "attribute"]
    frame = results.predictions[results.best].select(*keys, "gold", "text", "confidence")
    for stage, predictions in results.predictions.items():
        frame = frame.join(predictions.select(*keys, pl.col("answer").alias(stage)), on=keys)
    right = {stage: pl.col(stage).eq_missing(pl.col("gold")) for stage in results.predictions}
    before, after = right[results.reference], right[results.best]
    kind = (
        pl.when(~before & after)
        .then(pl.lit("gained"))
        .when(before & ~after)
        .then(pl.lit("lost"))
        .when(~pl.any_horizontal(*right.values()))
        .then(pl.lit("wrong"))
        .when(pl.all_horizontal(*(right[stage] for stage in results.stages if stage != "base")))
        .then(pl.lit("right"))
        .otherwise(pl.lit("mixed"))
    )
    seed = results.ws.config.seed
    draw = pl.struct(keys).map_elements(lambda row: digest([seed, *row.values()]), return_dtype=pl.String)
    frame = frame.with_columns(kind=kind, draw=draw).sort("draw")
    return frame.with_columns(turn=pl.int_range(pl.len()).over("kind", "vertical")).sort("turn", "vertical").to_dicts()


def _example(results: Results, row: dict) -> Example:
    answers = [(stage, row[stage] or "off-list", row[stage] == row["gold"]) for stage in results.predictions]
    try:
        picture = base64.b64encode(results.ws.images.jpeg(results.ws.listings[row["listing"]].images[0], SIDE)).decode()
    except InputError:
        picture = ""
    return Example(
        kind=row["kind"],
        listing=row["listing"],
        vertical=row["vertical"],
        attribute=row["attribute"],
        gold=row["gold"],
        image=f"data:image/jpeg;base64,{picture}" if picture else "",
        answers=answers,
        text=rationale_of(row["text"]),
        confidence=row["confidence"],
    )
