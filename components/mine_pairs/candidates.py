"""Candidate rows: chosen and rejected chains, of samples whose answer can be trusted and of labelled listings."""

import polars as pl

from attrloop.components.catalogue.records import Pair, polars_schema
from attrloop.components.mine_pairs.arms import Rules
from attrloop.components.mine_pairs.draws import derive

COLUMNS = {**polars_schema(Pair), "key": pl.UInt64}  # the key ranks rows of equal weight


def candidates(chains: pl.DataFrame, samples: pl.DataFrame, rules: Rules, per_sample: int) -> pl.DataFrame:
    """All rows that these samples can give, before the gate, the balance and the caps.

    Args:
        chains: as `votes.vote` returns them.
        samples: as `votes.vote` returns them.
        rules: of the arm.
        per_sample: most preference pairs from one sample.

    Returns:
        Rows of `COLUMNS`, in the order of the samples.
    """
    unlabelled = samples.filter(pl.col("split").is_null())
    train = samples.filter((pl.col("split") == "train") & pl.col("truth").is_not_null()).with_columns(
        target=pl.col("truth")
    )
    anchored = {"none": [], "unanimous": ["unanimous"], "all": ["contrast", "unanimous", "abstained"]}[rules.anchors]
    found = [_anchors(chains, unlabelled.filter(pl.col("outcome").is_in(anchored)))]
    if rules.pairs:
        found.append(_pairs(chains, unlabelled.filter(pl.col("outcome") == "contrast"), rules.contrast, per_sample))
    if rules.labels != "none":
        anchors = _label_anchors(chains, train)
        if rules.labels == "pairs":
            wrong = _label_pairs(chains, train)
            anchors = anchors.join(wrong, on=["sample", "view"], how="anti")
            found.append(wrong)
        found.append(anchors)
    return (
        pl.concat(found)
        .sort("sample", "source", "key")
        .select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    )


def _of(chains: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """The chains of some samples, with the sample's columns and one seeded random number each."""
    wanted = samples.select("sample", "target", "target_support", "completion", "key")
    joined = chains.join(wanted, on="sample", how="inner")
    return joined.with_columns(draw=derive(pl.col("key"), pl.col("view"), pl.col("chain")))


def _dissenting(chains: pl.DataFrame) -> pl.DataFrame:
    """Chains with another answer than the target, and how many chains of their view dissent."""
    wrong = chains.filter((pl.col("kind") != "abstain") & pl.col("answer").ne_missing(pl.col("target")))
    return wrong.with_columns(misled=pl.len().over("sample", "view").cast(pl.Int64))


def _rejected(chains: pl.DataFrame, contrast: bool, per_sample: int) -> pl.DataFrame:
    """Up to `per_sample` dissenting chains of every sample, numbered by `pick`.

    They are on different views where possible, and no text occurs twice on a view.
    """
    wrong = _dissenting(chains)
    order, descending = ["sample", "draw"], [False, False]
    if contrast:
        order, descending = ["sample", "support", "misled", "draw"], [False, True, True, False]
        # A dissenting listed value teaches more than an off-list answer, which only teaches the format.
        wrong = wrong.filter(pl.col("answer").is_not_null() | pl.col("answer").is_null().all().over("sample"))
    wrong = wrong.sort(order, descending=descending).unique(
        ["sample", "view", "text"], keep="first", maintain_order=True
    )
    wrong = wrong.with_columns(
        turn=pl.int_range(pl.len()).over("sample", "view"), rank=pl.int_range(pl.len()).over("sample")
    )
    wrong = wrong.sort("sample", "turn", "rank").with_columns(pick=pl.int_range(pl.len()).over("sample"))
    return wrong.filter(pl.col("pick") < per_sample)


def _pairs(chains: pl.DataFrame, samples: pl.DataFrame, contrast: bool, per_sample: int) -> pl.DataFrame:
    chains = _of(chains, samples)
    rejected = _rejected(chains, contrast, per_sample)
    right = (
        chains.filter(pl.col("answer") == pl.col("target"))
        .sort("sample", "draw")
        .unique(["sample", "view", "text"], keep="first", maintain_order=True)
    )
    right = right.select("sample", "draw", chosen="text", chosen_view="view")
    drawn = derive(pl.col("draw_right"), pl.col("pick"))  # by pick, so that pairs of a sample differ in both chains
    both = rejected.join(right, on="sample", how="inner", suffix="_right").with_columns(
        away=pl.col("chosen_view") != pl.col("view"), drawn=drawn
    )
    both = both.sort("sample", "pick", "away", "drawn").group_by("sample", "pick", maintain_order=True).first()
    # Rounded, because equal margins must be one weight.
    margin = (pl.col("target_support") - pl.col("support")).round(6)
    return _rows(
        both,
        chosen=pl.col("chosen"),
        rejected=pl.col("text"),
        rejected_answer=pl.col("answer"),
        weight=margin if contrast else pl.lit(1.0),
        agreement=pl.col("target_support"),
        source="consensus",
        key=derive(pl.col("key"), pl.col("pick")),
    )


def _anchors(chains: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """One row per sample: a view drawn evenly, and a chain with the target answer, from that view where it has one.

    If the chain were drawn first, hard photographs would seldom be trained on. Views on which all chains abstain do not
    show the answer and are left out.
    """
    chains = _of(chains, samples)
    seen = chains.filter(pl.col("kind") != "abstain").select(
        "sample", "view", turn=derive(pl.col("key"), pl.col("view"))
    )
    views = (
        seen.sort("sample", "turn").group_by("sample", maintain_order=True).first().select("sample", drawn_view="view")
    )
    right = (
        chains.filter(pl.col("answer") == pl.col("target"))
        .sort("sample", "draw")
        .unique(["sample", "view", "text"], keep="first", maintain_order=True)
    )
    right = right.join(views, on="sample").with_columns(away=pl.col("view") != pl.col("drawn_view"))
    one = (
        right.sort("sample", "away", "draw")
        .group_by("sample", maintain_order=True)
        .first()
        .with_columns(view=pl.col("drawn_view"))
    )
    nothing = pl.lit(None, dtype=pl.String)
    return _rows(
        one,
        chosen=pl.col("text"),
        rejected=nothing,
        rejected_answer=nothing,
        weight=pl.lit(1.0),
        agreement=pl.col("target_support"),
        source="anchor",
        key=pl.col("key"),
    )


def _label_pairs(chains: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """The label against a wrong chain, on every view with one: labels are few, so each misleading view gets a pair."""
    order = ["sample", "view", "support", "draw"]
    wrong = _dissenting(_of(chains, train)).sort(order, descending=[False, False, True, False])
    wrong = wrong.group_by("sample", "view", maintain_order=True).first()
    return _labelled(wrong, "label", rejected=pl.col("text"), rejected_answer=pl.col("answer"))


def _label_anchors(chains: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """The label itself, on every view."""
    seen = _of(chains, train).sort("sample", "view", "draw").group_by("sample", "view", maintain_order=True).first()
    nothing = pl.lit(None, dtype=pl.String)
    return _labelled(seen, "label_anchor", rejected=nothing, rejected_answer=nothing)


def _labelled(rows: pl.DataFrame, source: str, rejected: pl.Expr, rejected_answer: pl.Expr) -> pl.DataFrame:
    key, one = derive(pl.col("key"), pl.col("view")), pl.lit(1.0)
    return _rows(
        rows,
        chosen=pl.col("completion"),
        rejected=rejected,
        rejected_answer=rejected_answer,
        weight=one,
        agreement=one,
        source=source,
        key=key,
    )


def _rows(frame: pl.DataFrame, source: str, **columns: pl.Expr) -> pl.DataFrame:
    return frame.select(
        "sample",
        "listing",
        "vertical",
        "attribute",
        "view",
        chosen_answer=pl.col("target"),
        source=pl.lit(source),
        **columns,
    )
