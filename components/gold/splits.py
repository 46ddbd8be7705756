"""The split of every listing of a catalogue, and the gold listings that must not be judged by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import Split
from attrloop.components.gold.split import drawn_split
from attrloop.components.gold.stated import stated_splits
from attrloop.components.run.workspace import Workspace


@dataclass(frozen=True)
class Splits:
    """The splits of a catalogue's listings.

    Attributes:
        of: the split of every listing, by id. The unlabelled listings that a run learns from are those of `train`; the
            unlabelled ones of the gold splits are never learnt from, so that they can become gold later.
        group: the key of the group that a listing shares photographs with, by id.
        mixed: gold listings that share a photograph with a listing of another split, and that listing's id. Neither
            changes its split; the gold listing is left out of every comparison.
    """

    of: Mapping[str, Split]
    group: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, str] = field(default_factory=dict)


def decide(listings: Iterable[str], stated: Mapping[str, Split]) -> Splits:
    """Decides the split of every listing.

    Args:
        listings: ids of all listings.
        stated: splits that the labels file names, by listing.
    """
    group = {listing: listing for listing in listings}
    return Splits({listing: stated.get(listing) or drawn_split(key) for listing, key in group.items()}, group)


def splits_of(ws: Workspace) -> Splits:
    """The splits of a run's catalogue.

    Raises:
        InputError: the labels of a listing name different splits.
    """
    path = ws.config.data.labels
    given = read_labels(path, ws.schema, ws.listings) if path else []
    return decide(ws.listings, stated_splits(given, path))
