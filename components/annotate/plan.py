"""Decides which listings the annotator labels, and into which split each labelled listing goes.

All labels of a listing are in one split.
"""

from collections import defaultdict
from dataclasses import dataclass

from attrloop.components.annotate import request
from attrloop.components.catalogue.records import SPLITS, Label, Listing, Split
from attrloop.components.catalogue.schema import Schema
from attrloop.components.digests import digest
from attrloop.components.gold.stated import stated_splits
from attrloop.components.run.config import AnnotateConfig, RunConfig
from attrloop.components.run.made_from import READABLE, MadeFrom

VERSION = 1  # of how listings are chosen and put into splits


@dataclass(frozen=True)
class Plan:
    """Who labels what.

    Attributes:
        given: the user's labels that are used, each with its split.
        slots: by vertical, the places that the annotator is to fill: the split of each, in the order of filling.
        candidates: by vertical, the listings without labels, in the order in which they are asked about.
        surplus: how many listings with labels are left out because the splits are full.
    """

    given: list[Label]
    slots: dict[str, list[Split]]
    candidates: dict[str, list[Listing]]
    surplus: int

    @property
    def wanted(self) -> int:
        """How many listings the annotator is to label."""
        return sum(map(len, self.slots.values()))


def made_from() -> MadeFrom:
    """What decides the labels."""
    return MadeFrom(
        VERSION,
        config=("annotate", *READABLE),
        reads=("catalogue", "photographs", "values"),
        extra={"request": f"version {request.VERSION}"},
    )


def make_plan(config: RunConfig, schema: Schema, listings: dict[str, Listing], labels: list[Label]) -> Plan:
    """Fills the config's counts in every vertical with the user's labels first, and leaves the rest to the annotator.

    Args:
        config: how many listings each split of a vertical gets, and the seed.
        schema: the verticals.
        listings: all listings, by id.
        labels: the user's, in canonical form. A listing's split is the one that its labels name, else drawn by seed.

    Raises:
        InputError: the labels of a listing name different splits.
    """
    stated = stated_splits(labels, config.data.labels)
    labelled: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        labelled[listings[label.listing].vertical].add(label.listing)
    splits: dict[str, Split] = {}
    slots: dict[str, list[Split]] = {}
    for vertical in schema.verticals:
        own = labelled[vertical]
        fixed = {listing: stated[listing] for listing in own if listing in stated}
        taken = list(fixed.values())
        free = fill_order({split: count - taken.count(split) for split, count in counts(config.annotate).items()})
        drawn = dict(zip(_shuffled(own - set(fixed), config.seed), free, strict=False))
        splits |= fixed | drawn
        slots[vertical] = free[len(drawn) :]
    candidates = {
        vertical: [
            listings[key]
            for key in _shuffled(
                {k for k, item in listings.items() if item.vertical == vertical and k not in labelled[vertical]},
                config.seed,
            )
        ]
        for vertical in schema.verticals
    }
    given = [label.model_copy(update={"split": splits[label.listing]}) for label in labels if label.listing in splits]
    return Plan(given, slots, candidates, surplus=len({label.listing for label in labels}) - len(splits))


def counts(config: AnnotateConfig) -> dict[Split, int]:
    """How many listings of each vertical a split gets."""
    return {
        "train": config.train_per_vertical,
        "validation": config.validation_per_vertical,
        "test": config.test_per_vertical,
    }


def fill_order(wanted: dict[Split, int]) -> list[Split]:
    """The order in which places are filled.

    All splits grow in proportion, train first, so that a budget that ends early leaves something in each.
    """
    places = [(place / count, SPLITS.index(split), split) for split, count in wanted.items() for place in range(count)]
    return [split for _, _, split in sorted(places)]


def _shuffled(ids: set[str], seed: int) -> list[str]:
    return sorted(ids, key=lambda key: digest(seed, key))
