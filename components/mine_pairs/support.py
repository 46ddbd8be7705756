"""Support: how far the chains of a sample speak for each answer that they gave.

Plain support is the fraction of chains with the answer. Calibrated support knows the model's habits: what its chains
say on labelled listings when a value is true. It reads a sample's answers as evidence under those frequencies (the
observer model of Dawid and Skene, 1979, with a measured confusion matrix instead of an inferred one). An error that
the model makes everywhere then counts as a vote for the truth.
"""

import polars as pl

_SPREAD, _TRUST = 0.5, 3.0  # prior counts: for every answer, and the extra count for the right one


def habits(chains: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Counts what is answered when a value is true, over all verticals that share an attribute.

    Args:
        chains: of labelled listings; columns listing, attribute, view, answer (None off the list) and kind (see
            `votes.vote`).
        labels: columns listing, attribute and truth.

    Returns:
        Columns attribute, value, answer and count. A sample counts once for each of its views, divided among its
        chains.
    """
    sample = ["listing", "attribute"]
    votes = chains.filter(pl.col("kind") == "vote").join(labels.select(*sample, value="truth"), on=sample)
    weight = pl.col("view").n_unique().over(sample) / pl.len().over(sample)
    return (
        votes.with_columns(weight=weight)
        .group_by("attribute", "value", "answer")
        .agg(count=pl.col("weight").sum())
        .sort("attribute", "value", "answer")
    )


def plain(answers: pl.DataFrame) -> pl.DataFrame:
    """Adds plain `support`: the fraction of the sample's chains with this answer, in [0, 1].

    Args:
        answers: columns sample, attribute, answer, votes, chains.
    """
    return answers.with_columns(support=pl.col("votes") / pl.col("chains"))


def calibrated(answers: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Adds calibrated `support`: the answer's probability among those given, times the fraction of chains that voted.

    It is rounded to whole per cent, because the balance counts rows by weight. An attribute without labelled samples
    has plain support.

    Chains of one view make the same mistakes, so each view counts as one observation. A labelled sample is judged
    without what it has added to the habits itself: the gate needs its consensus to be what it would be without its
    label.

    Args:
        answers: one row per sample and answer; columns sample, attribute, answer, votes, chains, views, voted_views
            (those with a vote) and truth (null without a label).
        table: as `habits` returns it.
    """
    voted = pl.col("votes").sum().over("sample")
    answers = answers.with_columns(voted=voted, observations=pl.col("votes") * pl.col("views") / voted)
    names = (
        pl.concat([table.select("attribute", "value"), table.select("attribute", value="answer")])
        .unique()
        .group_by("attribute")
        .agg(names=pl.len())
    )
    totals = table.group_by("attribute", "value").agg(total=pl.col("count").sum())
    own = pl.when(pl.col("value") == pl.col("truth")).then(pl.col("voted_views")).otherwise(0)
    scored = (
        answers.join(names, on="attribute")
        .join(answers.select("sample", value="answer"), on="sample")
        .join(table, on=["attribute", "value", "answer"], how="left")
        .join(totals, on=["attribute", "value"], how="left")
        .with_columns(pl.col("count", "total").fill_null(0.0))  # a value without labelled samples has only the prior
        .with_columns(count=pl.col("count") - own * pl.col("votes") / pl.col("voted"), total=pl.col("total") - own)
        .sort("sample", "value", "answer")
        .group_by("sample", "value", maintain_order=True)
        .agg(score=(pl.col("observations") * _log_likelihood()).sum())
    )
    odds = (pl.col("score") - pl.col("score").max().over("sample")).exp()
    scored = scored.select("sample", answer="value", probability=odds / odds.sum().over("sample"))
    answers = plain(answers).join(scored, on=["sample", "answer"], how="left")
    support = (pl.col("probability") * pl.col("voted") / pl.col("chains")).round(2)
    return answers.with_columns(support=pl.coalesce(support, pl.col("support"))).drop(
        "voted", "voted_views", "observations", "probability", "truth"
    )


def _log_likelihood() -> pl.Expr:
    """Log-probability of an answer when a value is true."""
    trust = pl.when(pl.col("value") == pl.col("answer")).then(_TRUST).otherwise(0.0)
    return ((pl.col("count") + _SPREAD + trust) / (pl.col("total") + _SPREAD * pl.col("names") + _TRUST)).log()
