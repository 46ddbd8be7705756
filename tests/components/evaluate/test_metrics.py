import random

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from attrloop.components.catalogue.records import Prediction, to_frame
from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import InputError
from attrloop.components.evaluate import metrics

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
COLOUR = SCHEMA.attribute("mug", "colour")


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


def test_macro_accuracy_is_the_mean_over_verticals_however_many_samples_each_has():
    rows = [
        row("m1", "red", "red"),
        row("m2", "red", "blue"),
        row("m3", "red", None),
        row("m4", "blue", "red"),
        row("b1", "red", "red", vertical="bag"),
    ]
    figures = metrics.score(frame(*rows), SCHEMA, 50, 0)
    assert figures["verticals"]["mug"]["accuracy"] == 0.25
    assert figures["macro_accuracy"] == (0.25 + 1.0) / 2
    assert figures["verticals"]["mug"]["attributes"]["colour"]["count"] == 4


def test_rates_count_off_list_and_not_visible_answers_among_all_samples():
    figures = metrics.score(
        frame(
            row("a", "red", None), row("bb", "red", "not_visible"), row("ccc", "red", "red"), row("dddd", "red", "blue")
        ),
        SCHEMA,
        50,
        0,
    )
    assert (figures["off_list_rate"], figures["abstention_rate"], figures["chain_tokens_mean"]) == (0.25, 0.25, 2.5)


def test_an_abstention_counts_however_the_schema_writes_it():
    attribute = {"colour": {"values": ["red", "Not visible"]}}
    schema = Schema.model_validate({"verticals": {"mug": {"attributes": attribute}}})
    assert (
        metrics.score(frame(row("a", "red", "Not visible"), row("b", "red", "red")), schema, 50, 0)["abstention_rate"]
        == 0.5
    )


def test_no_predictions_are_refused():
    with pytest.raises(InputError, match="nothing to evaluate"):
        metrics.score(frame(), SCHEMA, 50, 0)


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
    assert found == {
        "values": ["red", "blue", "not_visible", "off-list"],
        "matrix": [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    }


def test_confusion_of_a_many_valued_attribute_has_the_combinations_that_occur():
    parts = SCHEMA.attribute("bag", "parts")
    found = metrics.confusion(frame(row("a", "strap; zip", "strap", vertical="bag", attribute="parts")), parts)
    assert found == {"values": ["strap", "strap; zip", "off-list"], "matrix": [[0, 0, 0], [1, 0, 0], [0, 0, 0]]}


def test_coverage_is_the_largest_share_with_enough_precision():
    rows = [row(str(k), "red", "red", 0.9 - k / 100) for k in range(20)] + [
        row("wrong", "red", "blue", 0.5),
        *(row(f"low{k}", "red", "blue", 0.1) for k in range(9)),
    ]
    assert metrics.coverage(frame(*rows)) == 21 / 30  # 20 of 21 are 95.2 %


def test_coverage_cannot_part_answers_of_equal_confidence():
    assert metrics.coverage(frame(row("a", "red", "red", 0.8), row("b", "red", "blue", 0.8))) == 0.0


def test_coverage_never_publishes_an_off_list_answer():
    assert metrics.coverage(frame(row("a", "red", None, 1.0), row("b", "red", "red", 0.8))) == 0.5


def test_calibration_error_is_the_distance_of_confidence_and_accuracy():
    rows = [row(str(k), "red", "red" if k < 6 else "blue", 0.85) for k in range(10)]
    figures = metrics.score(frame(*rows), SCHEMA, 50, 0)
    assert figures["expected_calibration_error"] == pytest.approx(0.25)
    assert figures["reliability"] == [{"low": 0.8, "count": 10, "confidence": pytest.approx(0.85), "accuracy": 0.6}]


def test_confidence_one_falls_in_the_last_bin():
    assert metrics.reliability_bins(frame(row("a", "red", "red", 1.0)))[0]["low"] == 0.9


def test_entropy_falls_to_zero_when_a_model_collapses():
    assert metrics.entropy(pl.Series(["red", "blue"] * 5)) == pytest.approx(1.0)
    assert metrics.entropy(pl.Series(["red"] * 10)) == 0.0


def test_intervals_repeat_with_the_seed_and_narrow_with_more_listings():
    few, many = (metrics.score(drawn(n, 0.7, 1), SCHEMA, 300, 5)["macro_accuracy_interval"] for n in (20, 500))
    assert few == metrics.score(drawn(20, 0.7, 1), SCHEMA, 300, 5)["macro_accuracy_interval"]
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
        metrics.score(frame(*part), SCHEMA, 2000, 0)["verticals"]["mug"]["interval"] for part in (rows, apart)
    )
    assert together[1] - together[0] > 1.2 * (independent[1] - independent[0])


def test_blocks_of_resamples_change_nothing_but_memory():
    values = np.arange(2_000).reshape(1_000, 2)
    sums = metrics._resampled(values, 5_000, np.random.default_rng(0))
    assert sums.shape == (5_000, 2)
    assert sums[:, 1].mean() == pytest.approx(values[:, 1].sum(), rel=0.01)


@pytest.mark.parametrize(("up", "down"), [(0, 0), (3, 3), (9, 1), (2, 12), (400, 350)])
def test_sign_test_is_the_exact_binomial_test(up: int, down: int):
    assert metrics.sign_test(up, down) == pytest.approx(binomtest(up, up + down).pvalue if up + down else 1.0)


def test_flip_ledger_counts_both_ways_per_vertical():
    before = frame(
        row("a", "red", "red"), row("b", "red", "blue"), row("c", "red", None), row("d", "red", "red", vertical="bag")
    )
    after = frame(
        row("a", "red", None), row("b", "red", "red"), row("c", "red", "red"), row("d", "red", "red", vertical="bag")
    )
    found = metrics.flips(before, after)
    assert found["verticals"]["mug"] == {"wrong_to_right": 2, "right_to_wrong": 1, "net": 1, "count": 3, "p": 1.0}
    assert found["total"]["net"] == 1 and found["verticals"]["bag"]["net"] == 0


def test_a_model_gains_nothing_over_itself():
    same = metrics.paired_bootstrap(drawn(20, 0.6, 1), drawn(20, 0.6, 1), 100, 0.95, 0)
    assert same["macro"] == {"delta": 0.0, "interval": [0.0, 0.0], "count": 40}


def test_paired_bootstrap_is_positive_when_the_second_is_better_and_excludes_zero_when_that_is_sure():
    worse, better = drawn(60, 0.4, 1), drawn(60, 0.9, 2)
    gain, loss = (
        metrics.paired_bootstrap(worse, better, 500, 0.95, 0),
        metrics.paired_bootstrap(better, worse, 500, 0.95, 0),
    )
    assert gain["macro"]["interval"][0] > 0 > loss["macro"]["interval"][1]
    assert gain["macro"]["delta"] == pytest.approx(np.mean([entry["delta"] for entry in gain["verticals"].values()]))


def test_paired_bootstrap_interval_covers_the_true_gain_about_as_often_as_it_says():
    true_gain, hits = 0.2, 0
    for seed in range(100):
        low, high = metrics.paired_bootstrap(drawn(60, 0.5, seed), drawn(60, 0.7, 10_000 + seed), 200, 0.9, seed)[
            "macro"
        ]["interval"]
        hits += low <= true_gain <= high
    assert 80 <= hits <= 97


def test_pairing_is_on_common_samples_whatever_their_order():
    full = drawn(20, 0.6, 1)
    assert metrics.paired_bootstrap(full.reverse().head(30), full, 50, 0.95, 0)["macro"]["count"] == 30


def test_predictions_that_cannot_be_paired_are_refused():
    with pytest.raises(InputError, match="no sample in common"):
        metrics.paired_bootstrap(frame(row("a", "red", "red")), frame(row("b", "red", "red")), 50, 0.95, 0)
    with pytest.raises(InputError, match="listing a: its gold value differs"):
        metrics.flips(frame(row("a", "red", "red")), frame(row("a", "blue", "red")))
