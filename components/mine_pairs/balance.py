"""Contrast balance and caps: how many candidates of every group are kept, and where each group is cut.

Even right pairs can make a model worse. Values that it is unsure of are mostly rejected, so DPO unlearns them
altogether. That is why, within an attribute, 'A over B' keeps no more weight than 'B over A' has.

Everything here works on counts per group and weight, which are as small as the schema. Of the candidates themselves,
only the keys of rows exactly on a cut are read, eight bytes each.
"""

import polars as pl

from attrloop.components.mine_pairs.arms import Rules
from attrloop.components.run.config import MineConfig

GROUP = ["source", "attribute", "chosen_answer", "rejected_answer"]  # over all verticals that share the attribute
_CLOSE = 1e-9


def cells_of(rows: pl.LazyFrame) -> pl.DataFrame:
    """Counts candidates by group, vertical and weight, heaviest first."""
    names = [*GROUP, "vertical", "weight"]
    cells = rows.group_by(names).agg(count=pl.len().cast(pl.Int64)).collect(engine="streaming")
    return cells.sort(names, descending=[False] * (len(names) - 1) + [True])


def limits(cells: pl.DataFrame, config: MineConfig, rules: Rules) -> pl.DataFrame:
    """Decides how many rows of every group are kept.

    Args:
        cells: columns GROUP, weight, count, of the rows that the gate lets through.
        config: `balance`, `off_list_ratio`, `anchor_ratio`, `anchor_floor`.
        rules: of the arm.

    Returns:
        Columns GROUP and keep. Groups that are kept whole may be missing.
    """
    cells = _over_verticals(cells)
    pairs, anchors = cells.filter(pl.col("source") == "consensus"), cells.filter(pl.col("source") == "anchor")
    keep = _none(cells)
    if rules.balance > 0:
        listed = pl.col("rejected_answer").is_not_null()
        contrasts = contrast_limits(pairs.filter(listed), rules.balance)
        per_attribute = dict(contrasts.group_by("attribute").agg(pl.col("keep").sum()).iter_rows())
        off_list = _sizes(pairs.filter(~listed)).group_by("attribute", maintain_order=True)
        keep = pl.concat(
            [
                contrasts,
                *(
                    spread(group, round(config.off_list_ratio * per_attribute.get(name, 0)))
                    for (name,), group in off_list
                ),
            ]
        )
    if rules.capped:
        preferences = _sizes(cells.filter(pl.col("source").is_in(["consensus", "label"]))).join(
            keep, on=GROUP, how="left", nulls_equal=True
        )
        cap = round(config.anchor_ratio * preferences.select(pl.coalesce("keep", "size").sum()).item())
        keep = pl.concat(
            [keep, spread(_sizes(anchors), max(cap, config.anchor_floor) if config.anchor_ratio > 0 else 0)]
        )
    return keep


def contrast_limits(cells: pl.DataFrame, balance: float) -> pl.DataFrame:
    """Keeps the heaviest 'A over B' until they weigh `balance` times what 'B over A' weighs.

    The pair that crosses this bound is kept, so neither side exceeds it by more than one pair.

    Args:
        cells: columns GROUP, weight, count, heaviest first within a group.
        balance: above 0. With 1 or more, at most one side of a contrast is cut.

    Returns:
        Columns GROUP and keep.
    """
    total = cells.group_by("attribute", "chosen_answer", "rejected_answer").agg(
        bound=(pl.col("weight") * pl.col("count")).sum() * balance
    )
    reverse = total.rename({"chosen_answer": "rejected_answer", "rejected_answer": "chosen_answer"})
    mass = pl.col("weight") * pl.col("count")
    cells = cells.join(reverse, on=["attribute", "chosen_answer", "rejected_answer"], how="left", maintain_order="left")
    cells = cells.with_columns(pl.col("bound").fill_null(0.0), before=mass.cum_sum().over(GROUP) - mass)
    room = ((pl.col("bound") - pl.col("before")) / pl.col("weight") - _CLOSE).ceil().cast(pl.Int64)
    return cells.group_by(GROUP, maintain_order=True).agg(keep=room.clip(0, pl.col("count")).sum())


def spread(sizes: pl.DataFrame, total: int) -> pl.DataFrame:
    """Spreads `total` rows over groups as evenly as their sizes allow: small groups are kept whole, others equally.

    Args:
        sizes: columns GROUP and size.
        total: rows to keep, 0 or more.

    Returns:
        Columns GROUP and keep.
    """
    sizes = sizes.sort("size", *GROUP)
    keep, left = [], total
    for k, size in enumerate(sizes["size"]):
        count = min(size, left // (sizes.height - k))
        keep.append(count)
        left -= count
    return sizes.select(GROUP).with_columns(keep=pl.Series(keep, dtype=pl.Int64))


def cuts(rows: pl.LazyFrame, cells: pl.DataFrame, keep: pl.DataFrame) -> pl.DataFrame:
    """Turns counts to keep into cuts: rows above `weight_cut` are kept, and rows at it with a key up to `key_cut`.

    Args:
        rows: the candidates that the gate lets through.
        cells: columns GROUP, weight, count.
        keep: columns GROUP and keep.

    Returns:
        Columns GROUP, weight_cut, key_cut.
    """
    cells = _over_verticals(cells)
    cells = cells.with_columns(before=pl.col("count").cum_sum().over(GROUP) - pl.col("count"))
    cells = cells.join(keep, on=GROUP, how="inner", nulls_equal=True).with_columns(
        take=pl.min_horizontal("count", pl.col("keep") - pl.col("before"))
    )
    table = (
        cells.filter(pl.col("take") > 0)
        .group_by(GROUP)
        .agg(pl.col("weight", "take", "count").sort_by("weight").first())
    )
    everything = pl.lit(2**64 - 1, dtype=pl.UInt64)
    whole = table.filter(pl.col("take") == pl.col("count")).select(*GROUP, weight_cut="weight", key_cut=everything)
    split = table.filter(pl.col("take") < pl.col("count")).sort(GROUP).with_row_index("group")
    edge = rows.select(*GROUP, "weight", "key").join(
        split.lazy().select("group", *GROUP, "weight"), on=[*GROUP, "weight"], how="inner", nulls_equal=True
    )
    keys = edge.select("group", "key").collect(engine="streaming").sort("group", "key")
    keys = keys.with_columns(rank=pl.int_range(1, pl.len() + 1).over("group"))
    split = split.join(keys, left_on=["group", "take"], right_on=["group", "rank"], how="left")
    none = keep.filter(pl.col("keep") == 0).select(*GROUP, weight_cut=pl.lit(2.0), key_cut=pl.lit(0, dtype=pl.UInt64))
    return pl.concat([whole, split.select(*GROUP, weight_cut="weight", key_cut="key"), none])


def kept(rows: pl.LazyFrame, table: pl.DataFrame) -> pl.LazyFrame:
    """The rows on the right side of their group's cut, in their order. Groups without a cut are kept whole."""
    joined = rows.join(table.lazy(), on=GROUP, how="left", nulls_equal=True, maintain_order="left")
    at = (pl.col("weight") == pl.col("weight_cut")) & (pl.col("key") <= pl.col("key_cut"))
    return joined.filter(pl.col("weight_cut").is_null() | (pl.col("weight") > pl.col("weight_cut")) | at)


def _over_verticals(cells: pl.DataFrame) -> pl.DataFrame:
    names = [*GROUP, "weight"]
    return cells.group_by(names).agg(pl.col("count").sum()).sort(names, descending=[False] * len(GROUP) + [True])


def _sizes(cells: pl.DataFrame) -> pl.DataFrame:
    return cells.group_by(GROUP).agg(size=pl.col("count").sum()).sort(GROUP)


def _none(cells: pl.DataFrame) -> pl.DataFrame:
    return _sizes(cells.head(0)).rename({"size": "keep"})
