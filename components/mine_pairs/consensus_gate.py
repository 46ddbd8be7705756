"""The consensus gate: a (vertical, attribute) whose consensus is wrong too often on labelled listings gives no rows.

Consensus sharpens what a model already knows. Where it is right less than about half of the time, training on it does
harm that nothing shows.
"""

import polars as pl

from attrloop.components.mine_pairs.votes import TRUSTED
from attrloop.components.run.config import MineConfig

TASK = ["vertical", "attribute"]


def judge(tallies: pl.DataFrame, config: MineConfig, enforce: bool) -> pl.DataFrame:
    """Decides which (vertical, attribute) may give consensus rows.

    Args:
        tallies: as `votes.tally` returns them, added up over all chains.
        config: `gate_accuracy` and `gate_min_labels`.
        enforce: False leaves everything open, for arms without a gate.

    Returns:
        One row per (vertical, attribute):
            samples: how many.
            labelled: labelled samples whose consensus passes the threshold.
            right: how many of those are right.
            accuracy: their fraction.
            train_accuracy, validation_accuracy: the same by split.
            judged_by: `own labels`, `attribute` (all verticals together), `not judged`, or `no gate`.
            judged_accuracy: the accuracy that decides.
            open: whether the rows are let through.
    """
    trusted = pl.col("outcome").is_in(TRUSTED) & pl.col("right").is_not_null()
    right = pl.col("count").filter(trusted & pl.col("right").fill_null(False)).sum()

    def accuracy(split: str) -> pl.Expr:
        chosen = trusted & (pl.col("split") == split).fill_null(False)
        return (
            pl.col("count").filter(chosen & pl.col("right").fill_null(False)).sum()
            / pl.col("count").filter(chosen).sum()
        )

    table = tallies.group_by(TASK).agg(
        samples=pl.col("count").sum(),
        labelled=pl.col("count").filter(trusted).sum(),
        right=right,
        train_accuracy=accuracy("train"),
        validation_accuracy=accuracy("validation"),
    )
    table = table.with_columns(
        pl.col("train_accuracy", "validation_accuracy").fill_nan(None),
        accuracy=(pl.col("right") / pl.col("labelled")).fill_nan(None),
    )
    everywhere = pl.col("right").sum().over("attribute") / pl.col("labelled").sum().over("attribute")
    own = pl.col("labelled") >= config.gate_min_labels
    any_label = pl.col("labelled").sum().over("attribute") > 0
    table = table.with_columns(
        judged_by=pl.when(own)
        .then(pl.lit("own labels"))
        .when(any_label)
        .then(pl.lit("attribute"))
        .otherwise(pl.lit("not judged")),
        judged_accuracy=pl.when(own).then(pl.col("accuracy")).when(any_label).then(everywhere),
    )
    table = table.with_columns(open=(pl.col("judged_accuracy") >= config.gate_accuracy - 1e-9).fill_null(True))
    if not enforce:
        table = table.with_columns(judged_by=pl.lit("no gate"), open=pl.lit(True))
    return table.sort(TASK)
