"""The listings that a step looks at: those with labels, and those that an iteration samples chains for."""

import random

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import LOOP_SPLITS, SPLITS, Label, Listing
from attrloop.components.errors import AttrloopError
from attrloop.components.gold.splits import splits_of
from attrloop.components.run import layout
from attrloop.components.run.manifest import intact
from attrloop.components.run.workspace import Workspace


def labelled_ids(ws: Workspace, split: str) -> set[str]:
    """The ids of the listings of a split that have labels."""
    return {label.listing for _, label in read_rows(intact(ws.store, layout.LABELS), Label) if label.split == split}


def sampled_ids(ws: Workspace) -> set[str]:
    """The ids of `listings_to_sample`."""
    return {listing.id for listing in listings_to_sample(ws)}


def listings_to_sample(ws: Workspace) -> list[Listing]:
    """Unlabelled listings of split train in catalogue order, then the labelled ones of train and validation.

    Unlabelled listings of the gold splits are left alone: nothing is learnt from them, so they can become gold later.
    At most `sample.max_listings` are unlabelled, drawn by seed. Labelled listings are sampled too, because the
    consensus gate and the labelled pairs need their chains.

    Raises:
        AttrloopError: there are none.
    """
    unlabelled, bound = unlabelled_train(ws), ws.config.sample.max_listings
    if bound and bound < len(unlabelled):
        chosen = set(random.Random(f"{ws.config.seed}/sample").sample([listing.id for listing in unlabelled], bound))
        unlabelled = [listing for listing in unlabelled if listing.id in chosen]
    labelled = {label.listing for split in LOOP_SPLITS for label in ws.labels(split)}
    listings = unlabelled + [listing for listing in ws.listings.values() if listing.id in labelled]
    if not listings:
        raise AttrloopError("There are no listings to sample chains for. Add unlabelled listings to the catalogue.")
    return listings


def unlabelled_train(ws: Workspace) -> list[Listing]:
    """The listings of split train that have no label, in the catalogue's order."""
    labelled, splits = {label.listing for split in SPLITS for label in ws.labels(split)}, splits_of(ws).of
    return [row for key, row in ws.listings.items() if splits[key] == "train" and key not in labelled]
