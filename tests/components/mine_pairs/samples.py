"""Hand-written samples, whose outcome can be worked out on paper."""

from collections.abc import Callable
from typing import Any

import polars as pl

from attrloop.components.catalogue.records import Chain, Label

Mined = Callable[..., tuple[pl.DataFrame, dict[str, Any]]]
EASY = {"min_votes": 2, "balance": 0, "calibrate": False}


def sample(listing: str, answers: str, attribute: str = "shade", vertical: str = "mug") -> list[Chain]:
    """Chains from words like 'aab- c?', one word a view.

    A letter is a value's initial, '-' is off the list, and '?' is not_visible.
    """
    names = {"a": "amber", "b": "beige", "c": "coral", "d": "denim", "?": "not_visible"}
    rows = []
    for view, word in enumerate(answers.split()):
        for number, letter in enumerate(word):
            value = names.get(letter)
            text = f"view {view} number {number} of {listing}. Answer: {value or 'teal'}"
            row = {
                "listing": listing,
                "vertical": vertical,
                "attribute": attribute,
                "view": view,
                "chain": number,
                "text": text,
                "answer": value,
            }
            rows.append(Chain.model_validate(row | {"logprob": -1.0, "tokens": 9}))
    return rows


def label(listing: str, value: str, split: str, attribute: str = "shade") -> Label:
    return Label.model_validate(
        {"listing": listing, "attribute": attribute, "value": value, "rationale": "plain to see", "split": split}
    )
