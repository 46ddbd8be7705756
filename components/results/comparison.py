"""Compares two sets of predictions on the same gold labels."""

from math import comb

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from attrloop.components.errors import fail
from attrloop.components.results.bootstrap import CONFIDENCE, interval, resampled_means
from attrloop.components.results.metrics import RIGHT


class Change(BaseModel):
    """The difference of two accuracies, in [-1, 1], with its bootstrap interval.

    Attributes:
        delta: the second accuracy minus the first.
        low: lower bound of the interval.
        high: upper bound of the interval.
        count: gold samples behind it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    delta: float
    low: float
    high: float
    count: int


class Gain(BaseModel):
    """How much better the second of two models is.

    Attributes:
        macro: the change of the mean over verticals.
        verticals: the change of each vertical.
    """

    model_config = ConfigDict(frozen=True)
    macro: Change
    verticals: dict[str, Change]


class FlipCount(BaseModel):
    """Samples that changed between two models.

    Attributes:
        wrong_to_right: how many the second model got right and the first one did not.
        right_to_wrong: how many the first model got right and the second one did not.
        count: all samples.
    """

    model_config = ConfigDict(frozen=True)
    wrong_to_right: int
    right_to_wrong: int
    count: int

    @property
    def net(self) -> int:
        """How many more samples are right."""
        return self.wrong_to_right - self.right_to_wrong

    @property
    def p(self) -> float:
        """Exact two-sided sign test that a sample is as likely to flip either way (McNemar's exact test)."""
        return sign_test(self.wrong_to_right, self.right_to_wrong)


class Flips(BaseModel):
    """The samples that changed between two models, in total and by vertical."""

    model_config = ConfigDict(frozen=True)
    total: FlipCount
    verticals: dict[str, FlipCount]


def flips(before: pl.DataFrame, after: pl.DataFrame) -> Flips:
    """Counts the samples that became right and wrong, among those that both frames hold.

    Raises:
        InputError: the two have no sample in common, or disagree on its gold value.
    """
    paired = _paired(before, after)
    by_vertical = {str(key[0]): part for key, part in sorted(paired.group_by("vertical"))}
    return Flips(total=_counted(paired), verticals={name: _counted(part) for name, part in by_vertical.items()})


def _counted(part: pl.DataFrame) -> FlipCount:
    up, down = int((part["after"] > part["before"]).sum()), int((part["after"] < part["before"]).sum())
    return FlipCount(wrong_to_right=up, right_to_wrong=down, count=part.height)


def sign_test(up: int, down: int) -> float:
    """Exact two-sided p of `up` against `down` events with equal chances; 1.0 when there are none."""
    n = up + down
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(up, down) + 1)) / 2**n)


def paired_bootstrap(
    before: pl.DataFrame, after: pl.DataFrame, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> Gain:
    """How much better `after` is than `before` on their common samples, by paired bootstrap over listings.

    Args:
        before: predictions of the present model: the champion, or an earlier stage.
        after: predictions of the model that would replace it, on the same gold.
        resamples: how often the listings of each vertical are drawn.
        seed: seed of the resampling.
        confidence: confidence of the two-sided intervals, in (0, 1).

    Raises:
        InputError: the two have no sample in common, or disagree on its gold value.
    """
    delta = pl.col("after") - pl.col("before")
    draws, verticals = [], {}
    for k, (key, part) in enumerate(sorted(_paired(before, after).group_by("vertical"))):
        draws.append(resampled_means(part, delta, resamples, [seed, k]))
        low, high = interval(draws[-1], confidence)
        mean = float((part["after"] - part["before"]).to_numpy().mean())
        verticals[str(key[0])] = Change(delta=mean, low=low, high=high, count=part.height)
    low, high = interval(np.mean(draws, axis=0), confidence)
    mean = float(np.mean([change.delta for change in verticals.values()]))
    count = sum(change.count for change in verticals.values())
    return Gain(macro=Change(delta=mean, low=low, high=high, count=count), verticals=verticals)


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """(listing, vertical, attribute, before, after) with 1 for right and 0 for wrong."""
    keys = ["listing", "vertical", "attribute"]
    sides = [
        side.select(*keys, pl.col("gold").alias(f"gold_{name}"), RIGHT.cast(pl.Int64).alias(name))
        for side, name in ((before, "before"), (after, "after"))
    ]
    joined = sides[0].join(sides[1], on=keys, how="inner").sort(keys)
    remedy = "Evaluate both stages on the same gold labels"
    if joined.is_empty():
        raise fail("predictions", "the two sets of predictions have no sample in common", remedy)
    changed = joined.filter(pl.col("gold_before") != pl.col("gold_after"))
    if not changed.is_empty():
        where, what = f"listing {changed['listing'][0]}", "its gold value differs between the two sets of predictions"
        raise fail(where, what, remedy)
    return joined.select(*keys, "before", "after")
