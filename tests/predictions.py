"""Small frames of predictions."""

import random

import polars as pl

from attrloop.components.catalogue.records import Prediction, to_frame
from attrloop.components.catalogue.schema import Schema

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
