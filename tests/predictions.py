"""Small frames of predictions, and evaluations made from them."""

import random

import polars as pl

from attrloop.components.catalogue.records import Label, Prediction, to_frame
from attrloop.components.catalogue.schema import Schema
from attrloop.components.evaluate.score import score
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace

SCHEMA = Schema.model_validate(
    {
        "verticals": {
            "mug": {
                "attributes": {
                    "colour": {"values": ["red", "blue", "not_visible"]},
                    "shape": {"values": ["round", "square"]},
                }
            },
            "bag": {
                "attributes": {
                    "colour": {"values": ["red", "blue"]},
                    "parts": {"values": ["strap", "zip", "lock"], "many": True},
                }
            },
        }
    }
)


def row(
    listing: str,
    gold: str,
    answer: str | None,
    confidence: float = 0.5,
    vertical: str = "mug",
    attribute: str = "colour",
) -> Prediction:
    return Prediction(
        listing=listing,
        vertical=vertical,
        attribute=attribute,
        split="test",
        gold=gold,
        answer=answer,
        confidence=confidence,
        text="",
        tokens=len(listing),
    )


def frame(*rows: Prediction) -> pl.DataFrame:
    return to_frame(rows, Prediction)


def drawn(listings: int, right: float, seed: int, verticals: tuple[str, ...] = ("bag", "mug")) -> pl.DataFrame:
    """Random predictions: one colour per listing."""
    rng = random.Random(seed)
    return frame(
        *(
            row(f"{v}{k}", "red", "red" if rng.random() < right else "blue", vertical=v)
            for v in verticals
            for k in range(listings)
        )
    )


def answered(label: Label, ws: Workspace, answer: str | None, confidence: float, text: str) -> Prediction:
    """The prediction of what a label asks about."""
    return Prediction.model_validate(
        {
            "listing": label.listing,
            "vertical": ws.listings[label.listing].vertical,
            "attribute": label.attribute,
            "split": label.split,
            "gold": label.value,
            "answer": answer,
            "confidence": confidence,
            "text": text,
            "tokens": len(text.split()),
        }
    )


def write_evaluation(
    ws: Workspace, stage: str, split: str, rows: list[Prediction], *, resamples: int, made_from: dict[str, str]
) -> float:
    """Writes predictions and metrics of a stage as an evaluation does; returns its macro accuracy."""
    table = to_frame(rows, Prediction)
    artifact = Artifact(ws.store, layout.evaluation(split, stage), made_from)
    table.write_parquet(artifact.folder / layout.PREDICTIONS)
    found = score(table, ws.schema, resamples=resamples, seed=0, stage=stage, split=split)
    (artifact.folder / layout.METRICS).write_text(found.model_dump_json())
    artifact.finish("evaluation", {"seconds": 6.0}, [layout.PREDICTIONS, layout.METRICS])
    return found.macro_accuracy
