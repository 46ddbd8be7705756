import numpy as np
import pytest
from scipy.stats import binomtest

from attrloop.components.errors import InputError
from attrloop.components.results import bootstrap
from attrloop.components.results.comparison import Change, FlipCount, flips, paired_bootstrap, sign_test
from tests.predictions import drawn, frame, row


def test_blocks_of_resamples_change_nothing_but_memory():
    values = np.arange(2_000).reshape(1_000, 2)
    sums = bootstrap._resampled(values, 5_000, np.random.default_rng(0))
    assert sums.shape == (5_000, 2)
    assert sums[:, 1].mean() == pytest.approx(values[:, 1].sum(), rel=0.01)


@pytest.mark.parametrize(("up", "down"), [(0, 0), (3, 3), (9, 1), (2, 12), (400, 350)])
def test_sign_test_is_the_exact_binomial_test(up: int, down: int):
    assert sign_test(up, down) == pytest.approx(binomtest(up, up + down).pvalue if up + down else 1.0)


def test_flips_are_counted_both_ways_per_vertical():
    before = frame(
        row("a", "red", "red"), row("b", "red", "blue"), row("c", "red", None), row("d", "red", "red", vertical="bag")
    )
    after = frame(
        row("a", "red", None), row("b", "red", "red"), row("c", "red", "red"), row("d", "red", "red", vertical="bag")
    )
    found = flips(before, after)
    assert found.verticals["mug"] == FlipCount(wrong_to_right=2, right_to_wrong=1, count=3)
    assert (found.verticals["mug"].net, found.verticals["mug"].p) == (1, 1.0)
    assert found.total.net == 1 and found.verticals["bag"].net == 0


def test_a_model_gains_nothing_over_itself():
    same = paired_bootstrap(drawn(20, 0.6, 1), drawn(20, 0.6, 1), resamples=100, seed=0)
    assert same.macro == Change(delta=0.0, low=0.0, high=0.0, count=40)


def test_paired_bootstrap_is_positive_when_the_second_is_better_and_excludes_zero_when_that_is_sure():
    worse, better = drawn(60, 0.4, 1), drawn(60, 0.9, 2)
    gain, loss = (
        paired_bootstrap(worse, better, resamples=500, seed=0),
        paired_bootstrap(better, worse, resamples=500, seed=0),
    )
    assert gain.macro.low > 0 > loss.macro.high
    assert gain.macro.delta == pytest.approx(np.mean([change.delta for change in gain.verticals.values()]))


def test_paired_bootstrap_interval_covers_the_true_gain_about_as_often_as_it_says():
    true_gain, hits = 0.2, 0
    for seed in range(100):
        before, after = drawn(60, 0.5, seed), drawn(60, 0.7, 10_000 + seed)
        macro = paired_bootstrap(before, after, resamples=200, seed=seed, confidence=0.9).macro
        hits += macro.low <= true_gain <= macro.high
    assert 80 <= hits <= 97


def test_pairing_is_on_common_samples_whatever_their_order():
    full = drawn(20, 0.6, 1)
    assert paired_bootstrap(full.reverse().head(30), full, resamples=50, seed=0).macro.count == 30


def test_predictions_that_cannot_be_paired_are_refused():
    with pytest.raises(InputError, match="no sample in common"):
        paired_bootstrap(frame(row("a", "red", "red")), frame(row("b", "red", "red")), resamples=50, seed=0)
    with pytest.raises(InputError, match="listing a: its gold value differs"):
        flips(frame(row("a", "red", "red")), frame(row("a", "blue", "red")))
