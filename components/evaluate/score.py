"""Turns the predictions of a stage into its evaluation."""

import numpy as np
import polars as pl

from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import fail
from attrloop.components.results import metrics
from attrloop.components.results.bootstrap import Array, interval, resampled_means
from attrloop.components.results.evaluation import METRICS, AttributeScores, Evaluation, VerticalScores


def score(
    frame: pl.DataFrame, schema: Schema, *, resamples: int, seed: int, stage: str = "", split: str = ""
) -> Evaluation:
    """Computes everything that `metrics.json` says.

    Args:
        frame: predictions of one stage on one split, one row a (listing, attribute).
        schema: the catalogue's.
        resamples: bootstrap resamples behind every interval.
        seed: seed of the resampling; the same frame and seed give the same intervals.
        stage: name of the stage, for the record.
        split: name of the split, for the record.

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
        vertical: resampled_means(part, metrics.RIGHT, resamples, [seed, k])
        for k, (vertical, part) in enumerate(parts.items())
    }
    verticals = {name: _vertical(part, schema, draws[name], resamples, seed) for name, part in parts.items()}
    return Evaluation(
        stage=stage,
        split=split,
        count=frame.height,
        macro_accuracy_interval=interval(np.mean(list(draws.values()), axis=0)),
        reliability=metrics.reliability_bins(frame),
        verticals=verticals,
        **{name: metric.measure(frame, verticals) for name, metric in METRICS.items()},
    )


def _vertical(part: pl.DataFrame, schema: Schema, draws: Array, resamples: int, seed: int) -> VerticalScores:
    groups = {str(key[0]): group for key, group in sorted(part.group_by("attribute", maintain_order=True))}
    vertical = str(part["vertical"][0])
    attributes = {}
    for k, (name, group) in enumerate(groups.items()):
        attribute = schema.attribute(vertical, name)
        attributes[name] = AttributeScores(
            accuracy=metrics.accuracy(group),
            interval=interval(resampled_means(group, metrics.RIGHT, resamples, [seed, k])),
            macro_f1=metrics.macro_f1(group, attribute),
            count=group.height,
            confusion=metrics.confusion(group, attribute),
        )
    return VerticalScores(
        accuracy=metrics.accuracy(part),
        interval=interval(draws),
        macro_f1=float(np.mean([scores.macro_f1 for scores in attributes.values()])),
        count=part.height,
        answer_entropy=float(np.mean([metrics.entropy(group["answer"]) for group in groups.values()])),
        gold_entropy=float(np.mean([metrics.entropy(group["gold"]) for group in groups.values()])),
        attributes=attributes,
    )
