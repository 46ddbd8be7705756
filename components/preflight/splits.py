"""Decides the splits, and tells which listings share photographs and which were learnt from earlier."""

from collections import Counter
from collections.abc import Iterator, Mapping

import polars as pl

from attrloop.components.catalogue.records import SPLITS, Listing, Split
from attrloop.components.gold.groups import MANY
from attrloop.components.gold.register import register_of
from attrloop.components.gold.splits import decided
from attrloop.components.gold.survey import Survey, survey
from attrloop.components.preflight.finding import Finding, some
from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.opening import open_store


def check_splits(
    config: RunConfig,
    workspace: str,
    listings: Mapping[str, Listing],
    stated: Mapping[str, Split],
    photographs: int = -1,
) -> tuple[Survey | None, Finding]:
    """Looks at the photographs and decides the splits, which are not remembered yet.

    Args:
        config: the run's config.
        workspace: URI of its workspace, or where it will be.
        listings: by id.
        stated: splits that the labels file names.
        photographs: see `survey`.

    Returns:
        The survey, None when the register or the photographs cannot be used; and what there is to say of it.
    """
    finding, found, register = Finding("splits"), None, register_of(config, workspace)
    with finding.gathering(register.store.root):
        finding.problems += register.check()
        found = survey(config, workspace, listings, stated, photographs)
        found.splits = decided(Workspace(open_store(workspace), config), found)
        sizes = Counter(found.splits.of.values())
        counts = ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS)
        told = [*_repeats(found), *_placeholders(found), *_moved(found)]
        finding.detail = "; ".join([counts, *told])
        finding.note = len(told) > 1
    return found, finding


def _moved(found: Survey) -> Iterator[str]:
    """Listings that are not what earlier runs had them for."""
    splits = found.splits
    later = [key for key, was in splits.contradicted.items() if SPLITS.index(splits.of[key]) > SPLITS.index(was)]
    if later:
        yield (
            f"{len(later):,} listings are gold by their labels, but earlier runs had them in a split that is "
            f"learnt from ({some(later)}): what those runs made is not judged by them"
        )
    if earlier := [key for key in splits.contradicted if key not in set(later)]:
        yield (
            f"{len(earlier):,} listings were gold in earlier runs, but their labels now put them in a split that is "
            f"learnt from ({some(earlier)}); later runs follow the labels"
        )
    if found.strangers * 2 > found.met:
        yield (
            f"{found.strangers:,} of {found.met:,} listings with ids of earlier runs show none of the photographs that "
            "they showed then: if this is another catalogue with the same ids, set data.splits to a folder of its own"
        )


def _repeats(found: Survey) -> Iterator[str]:
    """How many listings share photographs."""
    members = Counter(found.splits.group.values())
    groups = {key: count for key, count in members.items() if count > 1}
    if not groups:
        yield "no two listings are of one group"
        return
    largest = max(groups, key=lambda key: (groups[key], key))
    names = [listing for listing, key in found.splits.group.items() if key == largest]
    yield (
        f"listings that share photographs: {sum(groups.values()):,}; groups of them, each with one split: "
        f"{len(groups):,}; the largest has {len(names):,} ({some(names)})"
    )
    if found.splits.mixed:
        yield (
            "gold listings that share a photograph with a listing that is learnt from, and are left out of "
            f"comparisons: {len(found.splits.mixed):,} ({some(found.splits.mixed)})"
        )


def _placeholders(found: Survey) -> Iterator[str]:
    """The photographs that very many listings show."""
    counts = found.photographs.group_by("key").agg(count=pl.col("listing").n_unique()).filter(pl.col("count") > MANY)
    for key, count in counts.sort("count", "key", descending=[True, False]).head(3).rows():
        shown = found.photographs.filter(pl.col("key") == key)
        name = found.looked.join(shown, on=["listing", "photograph"], how="semi")["image"][0]
        yield (
            f"{count:,} listings show {name}: so many that it is taken for a placeholder or a size chart, and makes no "
            "group of them. Take it out of the listings if it shows no product"
        )
