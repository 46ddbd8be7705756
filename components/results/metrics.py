"""Functions from predictions to single numbers. A frame has the columns of `records.Prediction`."""

from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from attrloop.components.catalogue.schema import SEPARATOR, Attribute, abstains

OFF_LIST = "off-list"  # the last row and column of every confusion matrix
PRECISION = 0.95  # the precision that coverage is measured at
RIGHT = pl.col("answer").eq_missing(pl.col("gold"))


class Confusion(BaseModel):
    """Counts by gold value (row) and answer (column).

    Attributes:
        values: names of the rows and of the columns; the last one is off-list.
        matrix: shape (values, values); the off-list row is empty.
    """

    values: list[str]
    matrix: list[list[int]]

    @property
    def cells(self) -> dict[tuple[str, str], int]:
        """The counts above 0 by (gold value, answer)."""
        return {
            (gold, answer): count
            for gold, row in zip(self.values, self.matrix, strict=True)
            for answer, count in zip(self.values, row, strict=True)
            if count
        }


class ReliabilityBin(BaseModel):
    """On-list answers of similar confidence.

    Attributes:
        low: lower bound of the bin, in [0, 1].
        count: how many answers.
        confidence: their mean confidence, in [0, 1].
        accuracy: the fraction of them that is right.
    """

    low: float
    count: int
    confidence: float
    accuracy: float


def accuracy(frame: pl.DataFrame) -> float:
    """The fraction of rows whose answer is the gold value; an off-list answer is wrong."""
    return float(frame.select(RIGHT.mean()).item())


def macro_f1(frame: pl.DataFrame, attribute: Attribute) -> float:
    """Mean F1 over the values that occur as gold or as answer.

    The values of a many-valued answer count one by one.
    """
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


def confusion(frame: pl.DataFrame, attribute: Attribute) -> Confusion:
    """Counts how often each gold value got each answer.

    The values of a single-valued attribute come in the schema's order. A many-valued attribute has the combinations
    that occur.
    """
    occurring = sorted({cell for column in ("gold", "answer") for cell in frame[column] if cell is not None})
    values = [*(occurring if attribute.many else attribute.names), OFF_LIST]
    matrix = np.zeros((len(values), len(values)), dtype=int)
    for gold, answer in frame.select("gold", "answer").iter_rows():
        matrix[values.index(gold), values.index(OFF_LIST if answer is None else answer)] += 1
    return Confusion(values=values, matrix=matrix.tolist())


def off_list_rate(frame: pl.DataFrame) -> float:
    """The fraction of answers that are not on the list."""
    return float(frame.select(pl.col("answer").is_null().mean()).item())


def abstention_rate(frame: pl.DataFrame) -> float:
    """The fraction of answers that are `not_visible`, however the schema writes it."""
    return sum(map(abstains, frame["answer"])) / frame.height


def chain_tokens_mean(frame: pl.DataFrame) -> float:
    """Mean length of a chain, in tokens."""
    return float(frame.select(pl.col("tokens").mean()).item())


def coverage(frame: pl.DataFrame, precision: float = PRECISION) -> float:
    """The largest fraction of all samples, taken by falling confidence, whose answers reach a precision.

    Only on-list answers are taken. Equal confidences are taken together: no threshold could separate them.
    """
    taken = (
        frame.filter(pl.col("answer").is_not_null())
        .group_by("confidence")
        .agg(RIGHT.sum().alias("right"), pl.len().alias("count"))
        .sort("confidence", descending=True)
    )
    count, right = taken["count"].cum_sum().to_numpy(), taken["right"].cum_sum().to_numpy()
    enough = count[right >= precision * count - 1e-9]
    return float(enough.max() / frame.height) if enough.size else 0.0


def reliability_bins(frame: pl.DataFrame, bins: int = 10) -> list[ReliabilityBin]:
    """On-list answers in bins of equal width of their confidence, without empty bins."""
    place = (pl.col("confidence") * bins).floor().clip(0, bins - 1).cast(pl.Int64).alias("bin")
    rows = (
        frame.filter(pl.col("answer").is_not_null())
        .group_by(place)
        .agg(pl.len().alias("count"), pl.col("confidence").mean(), RIGHT.mean().alias("accuracy"))
        .sort("bin")
    )
    return [ReliabilityBin(low=row.pop("bin") / bins, **row) for row in rows.iter_rows(named=True)]


def calibration_error(frame: pl.DataFrame) -> float:
    """Expected calibration error (Naeini et al. 2015) of the on-list answers, in [0, 1].

    It is the mean distance of confidence and accuracy over the bins, weighted by their counts.
    """
    bins = reliability_bins(frame)
    total = sum(entry.count for entry in bins)
    return sum(entry.count * abs(entry.confidence - entry.accuracy) for entry in bins) / total if total else 0.0


def entropy(answers: pl.Series) -> float:
    """Shannon entropy of the distribution of answers, in bits. A model that collapses to few values loses it.

    All off-list answers count as one value.
    """
    fractions: Any = answers.value_counts()["count"].to_numpy() / max(len(answers), 1)
    return float(-(fractions * np.log2(fractions)).sum()) + 0.0
