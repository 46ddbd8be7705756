"""Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over listings.

The attributes of one listing are not independent of each other, so whole listings are drawn. The verticals are a fixed
set, so listings are drawn within each vertical. With few listings that are all right, an interval has no width.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

CONFIDENCE = 0.95  # of the intervals in metrics.json and in the report
Array = NDArray[Any]
Interval = tuple[float, float]  # low, high


def resampled_means(frame: pl.DataFrame, value: pl.Expr, resamples: int, seed: list[int]) -> Array:
    """The mean of a value in each resample of the listings.

    Args:
        frame: one row a sample; column `listing`.
        value: what is averaged, an integer of each row.
        resamples: how many resamples.
        seed: seed of the resampling.

    Returns:
        Shape (resamples,).
    """
    listings = (
        frame.group_by("listing")
        .agg(value.cast(pl.Int64).sum().alias("sum"), pl.len().cast(pl.Int64).alias("count"))
        .sort("listing")
    )
    sums = _resampled(listings.select("sum", "count").to_numpy(), resamples, np.random.default_rng(seed))
    return np.asarray(sums[:, 0] / sums[:, 1])


def interval(draws: Array, confidence: float = CONFIDENCE) -> Interval:
    """The interval that holds the middle `confidence` of the draws."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _resampled(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Sums of resampled rows: (listings, k) -> (resamples, k), in blocks so that memory stays flat."""
    listings = len(values)
    block = max(1, 2_000_000 // listings)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate([values[rng.integers(listings, size=(rows, listings))].sum(axis=1) for rows in sizes])
