"""Pure functions from prediction frames (the columns of `records.Prediction`) to figures.

Intervals are percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13) over listings, drawn within each vertical: the attributes of one
listing are not independent of each other, and the verticals are a fixed set. With few listings, all of them right, such an interval has no width.
"""

from math import comb
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from attrloop.components.catalogue.schema import SEPARATOR, Attribute, Schema, abstains
from attrloop.components.errors import fail

OFF_LIST = "off-list"  # the last column of every confusion matrix
CONFIDENCE = 0.95  # of the intervals in metrics.json
PRECISION = 0.95  # that coverage is measured at
Array = NDArray[Any]
_RIGHT = pl.col("answer").eq_missing(pl.col("gold"))


def score(frame: pl.DataFrame, schema: Schema, resamples: int, seed: int) -> dict[str, Any]:
    """Everything that metrics.json says of one stage on one split, apart from their names.

    Args:
        frame: predictions of one stage on one split, one row a (listing, attribute).
        resamples: bootstrap resamples behind every interval.
        seed: of the resampling; the same frame and seed give the same intervals.

    Returns:
        Shares and accuracies in [0, 1], `chain_tokens_mean` in tokens, entropies in bits, `reliability` as ten bins of the confidence. Coverage and
        calibration are about on-list answers, the only ones that could be used; coverage is a share of all samples.

    Raises:
        InputError: the frame is empty.
    """
    if frame.is_empty():
        raise fail(
            "predictions",
            "there is nothing to evaluate",
            "Label listings of this split (annotate.validation_per_vertical, annotate.test_per_vertical)",
        )
    parts = {str(key[0]): part for key, part in sorted(frame.group_by("vertical", maintain_order=True))}
    draws = {
        vertical: _accuracies(part, resamples, np.random.default_rng([seed, k]))
        for k, (vertical, part) in enumerate(parts.items())
    }
    verticals = {
        vertical: _vertical(part, schema, draws[vertical], resamples, seed) for vertical, part in parts.items()
    }
    reliability = reliability_bins(frame)
    return {
        "macro_accuracy": float(np.mean([entry["accuracy"] for entry in verticals.values()])),
        "macro_accuracy_interval": _interval(np.mean(list(draws.values()), axis=0)),
        "macro_f1": float(np.mean([entry["macro_f1"] for entry in verticals.values()])),
        "verticals": verticals,
        "count": frame.height,
        "off_list_rate": frame["answer"].is_null().mean(),
        "abstention_rate": sum(map(abstains, frame["answer"])) / frame.height,
        "coverage_at_95_precision": coverage(frame),
        "expected_calibration_error": _calibration_error(reliability),
        "reliability": reliability,
        "chain_tokens_mean": frame["tokens"].mean(),
        "answer_entropy": float(np.mean([entry["answer_entropy"] for entry in verticals.values()])),
        "gold_entropy": float(np.mean([entry["gold_entropy"] for entry in verticals.values()])),
    }


def _vertical(part: pl.DataFrame, schema: Schema, draws: Array, resamples: int, seed: int) -> dict[str, Any]:
    groups = {str(key[0]): group for key, group in sorted(part.group_by("attribute", maintain_order=True))}
    vertical = str(part["vertical"][0])
    attributes = {}
    for k, (name, group) in enumerate(groups.items()):
        attribute = schema.attribute(vertical, name)
        attributes[name] = {
            "accuracy": accuracy(group),
            "interval": _interval(_accuracies(group, resamples, np.random.default_rng([seed, k]))),
            "macro_f1": macro_f1(group, attribute),
            "count": group.height,
            "confusion": confusion(group, attribute),
        }
    return {
        "accuracy": accuracy(part),
        "interval": _interval(draws),
        "macro_f1": float(np.mean([entry["macro_f1"] for entry in attributes.values()])),
        "count": part.height,
        "answer_entropy": float(np.mean([entropy(group["answer"]) for group in groups.values()])),
        "gold_entropy": float(np.mean([entropy(group["gold"]) for group in groups.values()])),
        "attributes": attributes,
    }


def accuracy(frame: pl.DataFrame) -> float:
    """Share of rows whose answer is the gold value; an off-list answer is wrong."""
    return float(frame.select(_RIGHT.mean()).item())


def macro_f1(frame: pl.DataFrame, attribute: Attribute) -> float:
    """Mean F1 over the values that occur as gold or as answer; several values of one product count one by one."""
    gold, answer = (
        [set(cell.split(SEPARATOR)) if cell else set() for cell in frame[column]] for column in ("gold", "answer")
    )
    scores = []
    for value in attribute.names:
        both = sum(value in g and value in a for g, a in zip(gold, answer, strict=True))
        either = sum(value in g for g in gold) + sum(value in a for a in answer)
        if either:
            scores.append(2 * both / either)
    return float(np.mean(scores))


def confusion(frame: pl.DataFrame, attribute: Attribute) -> dict[str, Any]:
    """Counts by gold value (row) and answer (column), square: the last row and column are off-list, and that row is empty.

    The values of a single-valued attribute come in the schema's order; of a many-valued one, the combinations that occur.
    """
    occurring = sorted({cell for column in ("gold", "answer") for cell in frame[column] if cell is not None})
    values = [*(occurring if attribute.many else attribute.names), OFF_LIST]
    matrix = np.zeros((len(values), len(values)), dtype=int)
    for gold, answer in frame.select("gold", "answer").iter_rows():
        matrix[values.index(gold), values.index(OFF_LIST if answer is None else answer)] += 1
    return {"values": values, "matrix": matrix.tolist()}


def coverage(frame: pl.DataFrame, precision: float = PRECISION) -> float:
    """The largest share of all samples, taken by falling confidence, whose answers are right at least `precision` of the time; in [0, 1].

    Equal confidences are taken together: no threshold could part them.
    """
    taken = (
        frame.filter(pl.col("answer").is_not_null())
        .group_by("confidence")
        .agg(_RIGHT.sum().alias("right"), pl.len().alias("count"))
        .sort("confidence", descending=True)
    )
    count, right = taken["count"].cum_sum().to_numpy(), taken["right"].cum_sum().to_numpy()
    enough = count[right >= precision * count - 1e-9]
    return float(enough.max() / frame.height) if enough.size else 0.0


def reliability_bins(frame: pl.DataFrame, bins: int = 10) -> list[dict[str, float]]:
    """On-list answers in bins of equal width of their confidence; empty bins are left out."""
    place = (pl.col("confidence") * bins).floor().clip(0, bins - 1).cast(pl.Int64).alias("bin")
    parts = (
        frame.filter(pl.col("answer").is_not_null())
        .group_by(place)
        .agg(pl.len().alias("count"), pl.col("confidence").mean(), _RIGHT.mean().alias("accuracy"))
        .sort("bin")
    )
    return [{"low": row.pop("bin") / bins, **row} for row in parts.iter_rows(named=True)]


def _calibration_error(bins: list[dict[str, float]]) -> float:
    """Expected calibration error (Naeini et al. 2015): the mean distance of confidence and accuracy over bins, by their counts."""
    total = sum(entry["count"] for entry in bins)
    return (
        sum(entry["count"] * abs(entry["confidence"] - entry["accuracy"]) for entry in bins) / total if total else 0.0
    )


def entropy(answers: pl.Series) -> float:
    """Shannon entropy of the distribution of answers, in bits; off-list counts as one answer. A model that collapses to few values loses it."""
    shares = answers.value_counts()["count"].to_numpy() / max(len(answers), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def flips(before: pl.DataFrame, after: pl.DataFrame) -> dict[str, Any]:
    """The flip ledger between two prediction sets on their common samples.

    Returns:
        `{"total": entry, "verticals": {vertical: entry}}`; an entry has `wrong_to_right`, `right_to_wrong`, `net`, `count` and `p`, the exact two-sided sign
        test of as many flips either way (McNemar's exact test).
    """
    joined = _paired(before, after)

    def entry(part: pl.DataFrame) -> dict[str, Any]:
        up, down = int((part["after"] > part["before"]).sum()), int((part["after"] < part["before"]).sum())
        return {
            "wrong_to_right": up,
            "right_to_wrong": down,
            "net": up - down,
            "count": part.height,
            "p": sign_test(up, down),
        }

    return {
        "total": entry(joined),
        "verticals": {str(key[0]): entry(part) for key, part in sorted(joined.group_by("vertical"))},
    }


def sign_test(up: int, down: int) -> float:
    """Exact two-sided p of `up` against `down` events under equal chances; 1.0 when there are none."""
    n = up + down
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(up, down) + 1)) / 2**n)


def paired_bootstrap(a: pl.DataFrame, b: pl.DataFrame, resamples: int, confidence: float, seed: int) -> dict[str, Any]:
    """How much better `b` is than `a` on their common samples, by paired bootstrap over listings within each vertical.

    Args:
        a: predictions of the model that is there (the champion, the stage before).
        b: predictions of the one that would replace it, on the same gold.
        confidence: of the two-sided intervals, in (0, 1).

    Returns:
        `{"macro": {"delta", "interval", "count"}, "verticals": {vertical: {"delta", "interval", "count"}}}`: accuracy of b minus accuracy of a, in [-1, 1], the
        interval as [low, high], and the number of samples.

    Raises:
        InputError: the two have no sample in common, or disagree on its gold value.
    """
    draws: list[Array] = []
    verticals: dict[str, dict[str, Any]] = {}
    for k, (key, part) in enumerate(sorted(_paired(a, b).group_by("vertical"))):
        listings = (
            part.group_by("listing")
            .agg((pl.col("after").sum() - pl.col("before").sum()).alias("delta"), pl.len().alias("count"))
            .sort("listing")
        )
        sums = _resampled(listings.select("delta", "count").to_numpy(), resamples, np.random.default_rng([seed, k]))
        draws.append(sums[:, 0] / sums[:, 1])
        delta = float((part["after"] - part["before"]).to_numpy().mean())
        verticals[str(key[0])] = {"delta": delta, "interval": _interval(draws[-1], confidence), "count": part.height}
    delta = float(np.mean([entry["delta"] for entry in verticals.values()]))
    macro = {
        "delta": delta,
        "interval": _interval(np.mean(draws, axis=0), confidence),
        "count": sum(entry["count"] for entry in verticals.values()),
    }
    return {"macro": macro, "verticals": verticals}


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """(listing, vertical, attribute, before, after) with 1 for right and 0 for wrong."""
    keys = ["listing", "vertical", "attribute"]
    sides = [
        side.select(*keys, pl.col("gold").alias(f"gold_{name}"), _RIGHT.cast(pl.Int64).alias(name))
        for side, name in ((before, "before"), (after, "after"))
    ]
    joined = sides[0].join(sides[1], on=keys, how="inner").sort(keys)
    if joined.is_empty():
        raise fail(
            "predictions",
            "the two sets of predictions have no sample in common",
            "Evaluate both stages on the same gold labels",
        )
    changed = joined.filter(pl.col("gold_before") != pl.col("gold_after"))
    if not changed.is_empty():
        raise fail(
            f"listing {changed['listing'][0]}",
            "its gold value differs between the two sets of predictions",
            "Evaluate both stages on the same gold labels",
        )
    return joined.select(*keys, "before", "after")


def _accuracies(part: pl.DataFrame, resamples: int, rng: np.random.Generator) -> Array:
    """Accuracy of each resample of listings, shape (resamples,)."""
    listings = (
        part.group_by("listing")
        .agg(_RIGHT.sum().cast(pl.Int64).alias("right"), pl.len().cast(pl.Int64).alias("count"))
        .sort("listing")
    )
    sums = _resampled(listings.select("right", "count").to_numpy(), resamples, rng)
    return np.asarray(sums[:, 0] / sums[:, 1])


def _resampled(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Sums of resampled rows: (listings, k) -> (resamples, k), in blocks so that memory stays flat."""
    listings = len(values)
    block = max(1, 2_000_000 // listings)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate([values[rng.integers(listings, size=(rows, listings))].sum(axis=1) for rows in sizes])


def _interval(draws: Array, confidence: float = CONFIDENCE) -> list[float]:
    return [float(bound) for bound in np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])]
