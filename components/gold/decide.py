"""Decides the split of every listing of a catalogue, and which gold listings must not be judged by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from attrloop.components.catalogue.records import GOLD_SPLITS, SPLITS, Split
from attrloop.components.gold.split import drawn_split


@dataclass(frozen=True)
class Splits:
    """The splits of a catalogue's listings.

    Attributes:
        of: the split of every listing, by id. The unlabelled listings that a run learns from are those of `train`; the
            unlabelled ones of the gold splits are never learnt from, so that they can become gold later.
        group: the key of the group that a listing shares photographs with, by id.
        mixed: gold listings that share a photograph with a listing of another split that is trained on or chosen by,
            and that listing's id. Neither changes its split; the gold listing is left out of every comparison.
        contradicted: listings for which a gold split is stated although earlier runs had them in a split that is
            learnt from, and that split. What such a run made is not judged by them (see `learnt`).
    """

    of: Mapping[str, Split]
    group: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, str] = field(default_factory=dict)
    contradicted: Mapping[str, Split] = field(default_factory=dict)


def decide(
    listings: Iterable[str],
    stated: Mapping[str, Split] | None = None,
    remembered: Mapping[str, Split] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Splits:
    """Decides the split of every listing.

    A stated split wins, and a remembered listing keeps its split. A new listing joins its group; a new group is drawn.

    Args:
        listings: ids of all listings.
        stated: splits that the labels file names, by listing.
        remembered: splits that earlier runs decided, by listing; also of listings that are gone.
        groups: the key of the group of every listing that shares photographs, also of remembered ones that are gone.
    """
    stated, remembered, groups = stated or {}, remembered or {}, groups or {}
    fixed = {**remembered, **stated}
    members: dict[str, dict[Split, str]] = {}  # by group, a listing of each split
    for listing in sorted(fixed):
        members.setdefault(groups.get(listing, listing), {}).setdefault(fixed[listing], listing)
    of: dict[str, Split] = {}
    group: dict[str, str] = {}
    for listing in listings:
        group[listing] = key = groups.get(listing, listing)
        # Among members of several splits a new listing takes the earliest one, which spoils no further gold.
        found = [fixed[listing]] if listing in fixed else members.get(key, ())
        of[listing] = min(found, key=SPLITS.index, default=drawn_split(key))
    mixed = {
        listing: other
        for listing, split in of.items()
        if split in GOLD_SPLITS and (other := _learnt_from(members.get(group[listing], {}), split))
    }
    contradicted = {
        listing: remembered[listing]
        for listing, split in stated.items()
        if listing in remembered and SPLITS.index(split) > SPLITS.index(remembered[listing])
    }
    return Splits(of, group, mixed, contradicted)


def _learnt_from(members: Mapping[Split, str], split: Split) -> str:
    """A member that is trained on, or chosen by, where this split must not have been; "" when there is none."""
    return next((members[other] for other in SPLITS[: SPLITS.index(split)] if other in members), "")
