"""What a chain counts as in a vote; mining and prediction agree on it."""

import polars as pl

from attrloop.components.catalogue.schema import abstains


def with_kind(chains: pl.DataFrame) -> pl.DataFrame:
    """Adds `kind`: `vote`, `abstain` (the chain does not see the attribute) or `off_list`.

    Args:
        chains: rows of `records.Chain`.
    """
    abstentions = [answer for answer in chains["answer"].unique() if abstains(answer)]
    answer = pl.col("answer")
    kind = (
        pl.when(answer.is_null())
        .then(pl.lit("off_list"))
        .when(answer.is_in(abstentions))
        .then(pl.lit("abstain"))
        .otherwise(pl.lit("vote"))
    )
    return chains.with_columns(kind=kind)
