import random

import pytest

from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import InputError
from attrloop.components.evaluate.score import score
from tests.predictions import SCHEMA, drawn, frame, row


def test_macro_accuracy_is_the_mean_over_verticals_however_many_samples_each_has():
    rows = [
        row("m1", "red", "red"),
        row("m2", "red", "blue"),
        row("m3", "red", None),
        row("m4", "blue", "red"),
        row("b1", "red", "red", vertical="bag"),
    ]
    found = score(frame(*rows), SCHEMA, resamples=50, seed=0)
    assert found.verticals["mug"].accuracy == 0.25
    assert found.macro_accuracy == (0.25 + 1.0) / 2
    assert found.verticals["mug"].attributes["colour"].count == 4


def test_rates_count_off_list_and_not_visible_answers_among_all_samples():
    found = score(
        frame(
            row("a", "red", None), row("bb", "red", "not_visible"), row("ccc", "red", "red"), row("dddd", "red", "blue")
        ),
        SCHEMA,
        resamples=50,
        seed=0,
    )
    assert (found.off_list_rate, found.abstention_rate, found.chain_tokens_mean) == (0.25, 0.25, 2.5)


def test_an_abstention_counts_however_the_schema_writes_it():
    attribute = {"colour": {"values": ["red", "Not visible"]}}
    schema = Schema.model_validate({"verticals": {"mug": {"attributes": attribute}}})
    assert (
        score(
            frame(row("a", "red", "Not visible"), row("b", "red", "red")), schema, resamples=50, seed=0
        ).abstention_rate
        == 0.5
    )


def test_no_predictions_are_refused():
    with pytest.raises(InputError, match="nothing to evaluate"):
        score(frame(), SCHEMA, resamples=50, seed=0)


def test_calibration_error_is_the_distance_of_confidence_and_accuracy():
    rows = [row(str(k), "red", "red" if k < 6 else "blue", 0.85) for k in range(10)]
    found = score(frame(*rows), SCHEMA, resamples=50, seed=0)
    assert found.expected_calibration_error == pytest.approx(0.25)
    (only,) = found.reliability
    assert only.confidence == pytest.approx(0.85) and (only.low, only.count, only.accuracy) == (0.8, 10, 0.6)


def test_intervals_repeat_with_the_seed_and_narrow_with_more_listings():
    few, many = (score(drawn(n, 0.7, 1), SCHEMA, resamples=300, seed=5).macro_accuracy_interval for n in (20, 500))
    assert few == score(drawn(20, 0.7, 1), SCHEMA, resamples=300, seed=5).macro_accuracy_interval
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_intervals_do_not_take_attributes_of_one_listing_for_independent_evidence():
    rng = random.Random(2)
    fates = [rng.random() < 0.5 for _ in range(40)]
    names = [("colour", "red", "blue"), ("shape", "round", "square")]
    rows = [
        row(f"m{k}", gold, gold if fate else wrong, attribute=name)
        for k, fate in enumerate(fates)
        for name, gold, wrong in names
    ]
    apart = [r.model_copy(update={"listing": f"{r.listing}-{r.attribute}"}) for r in rows]
    together, independent = (
        score(frame(*part), SCHEMA, resamples=2000, seed=0).verticals["mug"].interval for part in (rows, apart)
    )
    assert together[1] - together[0] > 1.2 * (independent[1] - independent[0])
