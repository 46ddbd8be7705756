"""Votes: what the chains of each sample agree on. A sample is a (listing, attribute)."""

from dataclasses import dataclass

import polars as pl

from attrloop.components.catalogue.vote_kinds import with_kind
from attrloop.components.mine_pairs.arms import Rules
from attrloop.components.mine_pairs.draws import sample_keys
from attrloop.components.mine_pairs.support import calibrated, plain
from attrloop.components.run.config import MineConfig

BINS = 10  # of the agreement histogram
LABEL_COLUMNS = {"listing": pl.String, "attribute": pl.String, "truth": pl.String, "completion": pl.String}
_CLOSE = 1e-9  # thresholds such as 0.7 have no exact binary form
TALLY = ["vertical", "attribute", "split", "outcome", "bin", "right"]


@dataclass(frozen=True)
class Known:
    """What is known of the sampled listings.

    Attributes:
        labels: the train and validation labels; columns `LABEL_COLUMNS`.
        splits: every labelled listing with its split; columns listing and split. None of them makes consensus rows.
        truth: for the arm that reads true answers, else empty; columns listing, attribute and target.
        habits: as `support.habits` returns them; None where votes are not calibrated.
    """

    labels: pl.DataFrame
    splits: pl.DataFrame
    truth: pl.DataFrame
    habits: pl.DataFrame | None = None


def vote(
    chains: pl.DataFrame, known: Known, config: MineConfig, rules: Rules, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Counts and weighs the votes of whole samples.

    Off-list answers (None) and `not_visible` count in the denominator but never win. `not_visible` does not dissent
    either.

    Args:
        chains: rows of `records.Chain` in any order, with all chains of a sample or none.
        known: labels and truth.
        config: the thresholds.
        rules: of the arm.
        seed: of the draws.

    Returns:
        (chains, samples).

        Chains are sorted by listing and attribute and have these columns more: `sample` (its row in samples), `kind`
        (vote, abstain or off_list) and `support` of its answer (0 where it is no vote).

        Samples have one row each: listing, vertical, attribute, chains, votes, winner (the answer with most support),
        tie, agreement (the winner's support, in [0, 1]), target (the answer to prefer), target_votes, target_support,
        dissent (how many chains are against the target), split, truth, completion, outcome and key.
    """
    chains = with_kind(chains).sort("listing", "attribute")
    chains = chains.with_columns(sample=pl.struct("listing", "attribute").rle_id())
    samples = chains.group_by("sample", maintain_order=True).agg(
        pl.col("listing", "vertical", "attribute").first(),
        chains=pl.len(),
        views=pl.col("view").n_unique(),
        voted_views=pl.col("view").filter(pl.col("kind") == "vote").n_unique(),
        voices=(pl.col("kind") != "abstain").sum(),
    )
    samples = samples.join(known.splits, on="listing", how="left").join(
        known.labels, on=["listing", "attribute"], how="left"
    )
    answers = chains.filter(pl.col("kind") == "vote").group_by("sample", "answer").agg(votes=pl.len())
    answers = answers.join(
        samples.select("sample", "attribute", "chains", "views", "voted_views", "truth"), on="sample"
    )
    answers = plain(answers) if known.habits is None else calibrated(answers, known.habits)
    ranked = answers.sort("sample", "support", "answer", descending=[False, True, False]).group_by(
        "sample", maintain_order=True
    )
    winners = ranked.agg(
        winner=pl.col("answer").first(),
        agreement=pl.col("support").first(),
        second=pl.col("support").get(1, null_on_oob=True),
        votes=pl.col("votes").sum(),
    )
    samples = samples.join(winners, on="sample", how="left").with_columns(
        pl.col("agreement", "votes").fill_null(0), tie=(pl.col("second") == pl.col("agreement")).fill_null(False)
    )
    samples = (
        _with_target(samples, answers, known, rules)
        .with_columns(dissent=pl.col("voices") - pl.col("target_votes"))
        .sort("sample")
    )
    samples = samples.with_columns(outcome=_outcome(config, rules))
    chains = chains.join(
        answers.select("sample", "answer", "support"), on=["sample", "answer"], how="left", maintain_order="left"
    )
    samples = samples.with_columns(sample_keys(seed, samples.select("listing", "attribute").iter_rows()))
    return chains.with_columns(pl.col("support").fill_null(0.0)), samples


def _with_target(samples: pl.DataFrame, answers: pl.DataFrame, known: Known, rules: Rules) -> pl.DataFrame:
    votes = answers.select("sample", target="answer", target_votes="votes", target_support="support")
    preferred = (
        samples.join(known.truth, on=["listing", "attribute"], how="left")
        if rules.truth
        else samples.with_columns(target=pl.col("winner"))
    )
    return preferred.join(votes, on=["sample", "target"], how="left").with_columns(
        pl.col("target_votes", "target_support").fill_null(0)
    )


def _outcome(config: MineConfig, rules: Rules) -> pl.Expr:
    """What becomes of a sample. The target of a `contrast`, `unanimous` or `abstained` sample can be trusted."""
    agreeing = pl.col("target_votes") / pl.col("chains")
    trusted = (
        pl.when(pl.col("dissent") > 0)
        .then(pl.lit("contrast"))
        .when(agreeing >= config.anchor_agreement - _CLOSE)
        .then(pl.lit("unanimous"))
        .otherwise(pl.lit("abstained"))
    )
    if rules.truth:
        return (
            pl.when(pl.col("target").is_null())
            .then(pl.lit("no truth"))
            .when(pl.col("target_votes") == 0)
            .then(pl.lit("no right chain"))
            .otherwise(trusted)
        )
    return (
        pl.when(pl.col("votes") == 0)
        .then(pl.lit("no votes"))
        .when(pl.col("votes") < config.min_votes)
        .then(pl.lit("too few votes"))
        .when(pl.col("tie"))
        .then(pl.lit("tie"))
        .when(pl.col("agreement") < config.consensus - _CLOSE)
        .then(pl.lit("below threshold"))
        .otherwise(trusted)
    )


TRUSTED = ("contrast", "unanimous", "abstained")


def tally(samples: pl.DataFrame) -> pl.DataFrame:
    """Counts samples by vertical, attribute, split (null: unlabelled), outcome, bin of agreement and right or wrong."""
    bins = (pl.col("agreement") * BINS + _CLOSE).floor().clip(upper_bound=BINS - 1).cast(pl.Int64)
    right = pl.when(pl.col("truth").is_not_null()).then(
        (pl.col("winner") == pl.col("truth")).fill_null(False) & ~pl.col("tie")
    )
    return samples.with_columns(bin=bins, right=right).group_by(TALLY).agg(count=pl.len().cast(pl.Int64)).sort(TALLY)
