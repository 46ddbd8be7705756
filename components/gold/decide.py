"""Decides the split of every listing of a catalogue, and which gold listings must not be judged by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from attrloop.components.catalogue.records import SPLITS, Split
from attrloop.components.gold.split import drawn_split


@dataclass(frozen=True)
class Splits:
    """The splits of a catalogue's listings.

    Attributes:
        of: the split of every listing, by id. The unlabelled listings that a run learns from are those of `train`; the
            unlabelled ones of the gold splits are never learnt from, so that they can become gold later.
        group: the key of the group that a listing shares photographs with, by id.
        mixed: gold listings whose group has a listing of this catalogue in a split that is trained on or chosen by, and
            that listing's id. Neither changes its split; the gold listing is left out of every comparison.
        contradicted: listings whose stated split is not the one that earlier runs had them in, and that earlier split.
            What has learnt from a listing is not judged by it (see `learnt`).
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
    *,
    present: Mapping[str, str] | None = None,
    whole: bool = True,
) -> Splits:
    """Decides the split of every listing.

    A stated split wins, and a remembered listing keeps its split. A new listing joins its group; a new group is drawn.

    Args:
        listings: ids of all listings.
        stated: splits that the labels file names, by listing.
        remembered: splits that earlier runs decided, by listing; also of listings that are gone.
        groups: the key of the group of every listing that shares photographs, also of remembered ones that are gone.
        present: the same of those that are not gone, which decides what is mixed; None where nothing is gone.
        whole: whether `listings` are the whole catalogue; else the remembered ones are taken for a part of it too.
    """
    stated, remembered, groups = stated or {}, remembered or {}, groups or {}
    present, fixed = groups if present is None else present, dict(sorted({**remembered, **stated}.items()))
    members = _members(fixed, groups)
    of: dict[str, Split] = {}
    group: dict[str, str] = {}
    for listing in listings:
        group[listing] = key = groups.get(listing, listing)
        # Among members of several splits a new listing takes the earliest one, which spoils no further gold.
        found = [fixed[listing]] if listing in fixed else members.get(key, ())
        of[listing] = min(found, key=SPLITS.index, default=drawn_split(key))
    contradicted = {
        listing: remembered[listing] for listing, split in stated.items() if remembered.get(listing, split) != split
    }
    catalogue = {key: split for key, split in fixed.items() if key in of or not whole} | of
    return Splits(of, group, _mixed(of, _members(catalogue, present), present), contradicted)


def _members(splits: Mapping[str, Split], groups: Mapping[str, str]) -> dict[str, dict[Split, str]]:
    """By group, the first listing of each split."""
    members: dict[str, dict[Split, str]] = {}
    for listing, split in splits.items():
        members.setdefault(groups.get(listing, listing), {}).setdefault(split, listing)
    return members


def _mixed(
    of: Mapping[str, Split], members: Mapping[str, Mapping[Split, str]], groups: Mapping[str, str]
) -> dict[str, str]:
    """Gold listings whose group has a member in an earlier split, and that member."""
    mixed = {}
    for listing, split in of.items():
        group = members[groups.get(listing, listing)]
        earliest = min(group, key=SPLITS.index)
        if SPLITS.index(earliest) < SPLITS.index(split):
            mixed[listing] = group[earliest]
    return mixed
