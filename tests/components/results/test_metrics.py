import random

import polars as pl
import pytest
from sklearn.metrics import f1_score

from attrloop.components.results import metrics
from tests.predictions import SCHEMA, frame, row

COLOUR = SCHEMA.attribute("mug", "colour")


def test_macro_f1_agrees_with_scikit_learn():
    rng = random.Random(3)
    gold, answer = ([rng.choice(COLOUR.names) for _ in range(60)] for _ in range(2))
    found = metrics.macro_f1(
        frame(*(row(str(k), g, a) for k, (g, a) in enumerate(zip(gold, answer, strict=True)))), COLOUR
    )
    assert found == pytest.approx(f1_score(gold, answer, average="macro"))


def test_macro_f1_counts_the_values_of_a_many_valued_answer_one_by_one():
    parts = SCHEMA.attribute("bag", "parts")
    half_right = frame(row("a", "strap; zip", "strap", vertical="bag", attribute="parts"))
    assert metrics.macro_f1(half_right, parts) == 0.5  # strap 1, zip 0; lock never occurs


def test_confusion_is_square_and_puts_off_list_answers_in_the_last_column():
    found = metrics.confusion(frame(row("a", "red", "red"), row("b", "red", "blue"), row("c", "blue", None)), COLOUR)
    assert found.model_dump() == {
        "values": ["red", "blue", "not_visible", "off-list"],
        "matrix": [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    }


def test_confusion_of_a_many_valued_attribute_has_the_combinations_that_occur():
    parts = SCHEMA.attribute("bag", "parts")
    found = metrics.confusion(frame(row("a", "strap; zip", "strap", vertical="bag", attribute="parts")), parts)
    assert found.model_dump() == {
        "values": ["strap", "strap; zip", "off-list"],
        "matrix": [[0, 0, 0], [1, 0, 0], [0, 0, 0]],
    }


def test_coverage_is_the_largest_fraction_with_enough_precision():
    rows = [row(str(k), "red", "red", 0.9 - k / 100) for k in range(20)] + [
        row("wrong", "red", "blue", 0.5),
        *(row(f"low{k}", "red", "blue", 0.1) for k in range(9)),
    ]
    assert metrics.coverage(frame(*rows)) == 21 / 30  # 20 of 21 are 95.2 %


def test_coverage_cannot_part_answers_of_equal_confidence():
    assert metrics.coverage(frame(row("a", "red", "red", 0.8), row("b", "red", "blue", 0.8))) == 0.0


def test_coverage_never_publishes_an_off_list_answer():
    assert metrics.coverage(frame(row("a", "red", None, 1.0), row("b", "red", "red", 0.8))) == 0.5


def test_confidence_one_falls_in_the_last_bin():
    assert metrics.reliability_bins(frame(row("a", "red", "red", 1.0)))[0].low == 0.9


def test_entropy_falls_to_zero_when_a_model_collapses():
    assert metrics.entropy(pl.Series(["red", "blue"] * 5)) == pytest.approx(1.0)
    assert metrics.entropy(pl.Series(["red"] * 10)) == 0.0
