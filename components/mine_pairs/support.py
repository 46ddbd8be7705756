"""Support: how far the chains of a sample speak for each answer that they gave.

Plain support is an answer's share of the chains. Calibrated support knows the model's habits: on labelled listings it is counted what the
chains say when a value is true, and a sample's answers are read as evidence under those frequencies (the observer model of Dawid and
Skene, 1979, with its confusion matrix measured instead of inferred). Errors that the model makes everywhere are votes for the truth then.
"""

import polars as pl

_SPREAD, _TRUST = 0.5, 3.0  # prior counts: of every answer to every value, and more for the value itself


def habits(chains: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Counts what is answered when a value is true, over all verticals that share an attribute.

    Args:
        chains: of labelled listings: listing, attribute, view, answer (None off the list), kind (see `votes.vote`).
        labels: listing, attribute, truth.

    Returns:
        One row for every attribute, value and answer of it: `log_likelihood` of the answer, a chain's share weighing as much as the sample
        has views.
    """
    votes = chains.filter(pl.col("kind") == "vote").join(labels.select("listing", "attribute", "truth"), on=["listing", "attribute"])
    sample = ["listing", "attribute"]
    weight = pl.col("view").n_unique().over(sample) / pl.len().over(sample)
    counted = votes.with_columns(weight=weight).group_by("attribute", "truth", "answer").agg(count=pl.col("weight").sum())
    names = pl.concat([votes.select("attribute", value="truth"), votes.select("attribute", value="answer")]).unique()
    grid = names.join(names.rename({"value": "answer"}), on="attribute")
    grid = grid.join(counted.rename({"truth": "value"}), on=["attribute", "value", "answer"], how="left").sort("attribute", "value", "answer")
    trust = pl.when(pl.col("value") == pl.col("answer")).then(_TRUST).otherwise(0.0)
    grid = grid.with_columns(count=pl.col("count").fill_null(0.0) + _SPREAD + trust)
    likelihood = pl.col("count") / pl.col("count").sum().over("attribute", "value")
    return grid.select("attribute", "value", "answer", log_likelihood=likelihood.log())


def share(answers: pl.DataFrame) -> pl.DataFrame:
    """Adds plain `support`: an answer's share of the sample's chains, in [0, 1].

    Args:
        answers: sample, attribute, answer, votes, chains, views.
    """
    return answers.with_columns(support=pl.col("votes") / pl.col("chains"))


def calibrated(answers: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Adds calibrated `support`: an answer's probability among those given, times the share of chains that voted, in whole per cent.

    Chains of one view make the same mistakes, so each view counts as one observation. An attribute without labelled samples has plain
    support. Whole per cent, because the balance counts rows by weight.

    Args:
        answers: sample, attribute, answer, votes, chains, views; one row per sample and answer.
        table: as `habits` returns it.
    """
    voted = pl.col("votes").sum().over("sample")
    answers = answers.with_columns(voted=voted, observations=pl.col("votes") * pl.col("views") / voted)
    values = answers.select("sample", value="answer")
    unseen = table.group_by("attribute").agg(unseen=pl.col("log_likelihood").min())
    scored = (
        answers.join(values, on="sample")
        .join(table, on=["attribute", "value", "answer"], how="left")
        .join(unseen, on="attribute")
        .with_columns(pl.col("log_likelihood").fill_null(pl.col("unseen")))
        .sort("sample", "value", "answer")
        .group_by("sample", "value", maintain_order=True)
        .agg(score=(pl.col("observations") * pl.col("log_likelihood")).sum())
    )
    odds = (pl.col("score") - pl.col("score").max().over("sample")).exp()
    scored = scored.select("sample", answer="value", probability=odds / odds.sum().over("sample"))
    answers = share(answers).join(scored, on=["sample", "answer"], how="left")
    support = (pl.col("probability") * pl.col("voted") / pl.col("chains")).round(2)
    return answers.with_columns(support=pl.coalesce(support, pl.col("support"))).drop("voted", "observations", "probability")
