"""Decides which of the user's labels are used, and which labels the annotator is to add.

Labels are counted by (vertical, attribute, split). The split of a listing is not decided here (see `gold`). Within a
split each attribute has an order: listings with its label, then those with labels of other attributes only, then those
without any; each of these by rank. It gets the first of that order, as many as the config's count says. So what a small
count takes is taken for a larger one too, and no listing or label that joins later moves another to a different split.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from attrloop.components.annotate import request
from attrloop.components.catalogue.records import GOLD_SPLITS, SPLITS, Label, Listing, Split
from attrloop.components.catalogue.schema import Schema
from attrloop.components.gold.decide import Splits
from attrloop.components.gold.split import rank
from attrloop.components.run import layout
from attrloop.components.run.config import AnnotateConfig, RunConfig
from attrloop.components.run.made_from import READABLE, MadeFrom

VERSION = 3  # of how listings are chosen

MORE_LABELS = (
    "Add listings, give labels of your own (a split that they name is kept), let the annotator label more, or lower "
    "annotate.*_per_vertical"
)
"""What to do about a shortfall."""


class Cell(NamedTuple):
    """What labels are counted by."""

    vertical: str
    attribute: str
    split: Split


@dataclass(frozen=True)
class Plan:
    """Who labels what.

    Attributes:
        given: the user's labels that are used, each with its split.
        missing: labels that the annotator is to add, by cell; cells that miss none are left out.
        queues: listings that the annotator may be asked about, by (vertical, split), in order: those with labels, then
            the others. Only where labels are missing.
        known: attributes that a listing has a label of, by id. They are not asked for.
        sizes: how many listings there are, by (vertical, split).
        surplus: how many listings with labels give none, because the counts are reached.
        reviewed: gold listings whose labels from a review queue are left out: these are the least certain ones.
        mixed: gold listings with labels that share photographs with another split. Their labels are kept and fill no
            place, because comparisons leave them out (see `gold.left_out`).
    """

    given: list[Label]
    missing: Mapping[Cell, int]
    queues: Mapping[tuple[str, Split], list[Listing]]
    known: Mapping[str, Collection[str]]
    sizes: Mapping[tuple[str, Split], int]
    surplus: int
    reviewed: tuple[str, ...]
    mixed: tuple[str, ...]


@dataclass(frozen=True)
class Shortfall:
    """A cell with fewer labels than the config asks for.

    Attributes:
        vertical: its vertical.
        attribute: its attribute.
        split: its split.
        wanted: labels that the config asks for.
        labels: labels that there are.
        listings: listings of the vertical that are in this split.
    """

    vertical: str
    attribute: str
    split: Split
    wanted: int
    labels: int
    listings: int

    def __str__(self) -> str:
        """The shortfall in words."""
        has = "listing is" if self.listings == 1 else "listings are"
        return (
            f"{self.vertical}/{self.attribute} has {self.labels} of {self.wanted} {self.split} labels "
            f"({self.listings:,} {has} in this split)"
        )


def made_from() -> MadeFrom:
    """What decides the labels."""
    return MadeFrom(
        VERSION,
        {"splits": layout.SPLITS},
        config=("annotate", *READABLE),
        reads=("catalogue", "photographs", "values"),
        extra={"request": f"version {request.VERSION}"},
    )


def make_plan(
    config: RunConfig, schema: Schema, listings: Mapping[str, Listing], labels: list[Label], splits: Splits
) -> Plan:
    """Reaches the config's counts with the user's labels first, and leaves the rest to the annotator.

    Labels of a listing whose labels name a split are all used. The others are used until the count is reached.

    Args:
        config: how many labels each attribute gets in each split.
        schema: the catalogue's.
        listings: by id.
        labels: the user's, in canonical form.
        splits: of all listings.
    """
    found: dict[str, list[Label]] = defaultdict(list)
    reviewed = set[str]()
    for label in labels:
        if splits.of[label.listing] in GOLD_SPLITS and label.source == "review":
            reviewed.add(label.listing)
        else:
            found[label.listing].append(label)
    wanted, have, given = counts(config.annotate), Counter[Cell](), list[Label]()
    for listing, own in _in_order(found):
        split, stated, mixed = splits.of[listing], any(label.split for label in own), listing in splits.mixed
        for label in own:
            cell = Cell(listings[listing].vertical, label.attribute, split)
            if mixed or stated or have[cell] < wanted[split]:
                have[cell] += not mixed
                given.append(label.model_copy(update={"split": split}))
    cells = cells_of(schema)
    missing = {cell: wanted[cell.split] - have[cell] for cell in cells if have[cell] < wanted[cell.split]}
    known = {listing: {label.attribute for label in own} for listing, own in found.items()}
    return Plan(
        given,
        missing,
        _queues(missing, listings, known, splits),
        known,
        Counter((listing.vertical, splits.of[listing.id]) for listing in listings.values()),
        surplus=len(found) - len({label.listing for label in given}),
        reviewed=tuple(sorted(reviewed)),
        mixed=tuple(sorted(found.keys() & splits.mixed.keys())),
    )


def _in_order(found: Mapping[str, list[Label]]) -> Iterator[tuple[str, list[Label]]]:
    """Listings with labels: those whose labels name a split, then the others, by rank."""
    for listing in sorted(found, key=lambda key: (not any(label.split for label in found[key]), rank(key), key)):
        yield listing, found[listing]


def _queues(
    missing: Mapping[Cell, int],
    listings: Mapping[str, Listing],
    known: Mapping[str, Collection[str]],
    splits: Splits,
) -> dict[tuple[str, Split], list[Listing]]:
    queues: dict[tuple[str, Split], list[Listing]] = {(cell.vertical, cell.split): [] for cell in missing}
    for listing in listings.values():
        queue = queues.get((listing.vertical, splits.of[listing.id]))
        if queue is not None and listing.id not in splits.mixed:
            queue.append(listing)
    for queue in queues.values():
        queue.sort(key=lambda listing: place(listing.id, known))
    return queues


def place(listing: str, known: Mapping[str, Collection[str]]) -> tuple[bool, float, str]:
    """The place of a listing in the order in which the annotator is asked: those with labels first, then by rank."""
    return listing not in known, rank(listing), listing


def cells_of(schema: Schema) -> list[Cell]:
    """Every (vertical, attribute, split), in the schema's order."""
    return [Cell(vertical, attribute, split) for vertical, attribute in schema.tasks() for split in SPLITS]


def counts(config: AnnotateConfig) -> dict[Split, int]:
    """How many labels each attribute of a vertical gets in a split."""
    return {
        "train": config.train_per_vertical,
        "validation": config.validation_per_vertical,
        "test": config.test_per_vertical,
    }


def shortfalls(config: AnnotateConfig, schema: Schema, plan: Plan, labels: Mapping[Cell, int]) -> list[Shortfall]:
    """The cells with fewer labels than the config asks for.

    Args:
        config: the counts.
        schema: the catalogue's.
        plan: for the sizes of the splits.
        labels: how many there are, by cell.
    """
    wanted = counts(config)
    return [
        Shortfall(*cell, wanted[cell.split], labels.get(cell, 0), plan.sizes.get((cell.vertical, cell.split), 0))
        for cell in cells_of(schema)
        if labels.get(cell, 0) < wanted[cell.split]
    ]


def tally(labels: list[Label], listings: Mapping[str, Listing], mixed: Collection[str] = ()) -> Counter[Cell]:
    """How many labels fill a place, by cell. Every label has a split.

    Args:
        labels: the labels.
        listings: by id.
        mixed: see `Plan`.
    """
    without = set(mixed)
    return Counter(
        Cell(listings[label.listing].vertical, label.attribute, label.split)
        for label in labels
        if label.split and label.listing not in without
    )
