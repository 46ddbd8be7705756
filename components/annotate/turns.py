"""The order in which the annotator is asked: listings of a plan, in rounds in which splits and verticals take turns."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, zip_longest

from attrloop.components.annotate.plan import Cell, Plan, place
from attrloop.components.catalogue.records import SPLITS, Listing, Split


@dataclass(frozen=True)
class Ask:
    """A listing that the annotator is asked about.

    Attributes:
        listing: the listing.
        attributes: those that it is asked for, in the schema's order.
        split: of the listing.
    """

    listing: Listing
    attributes: tuple[str, ...]
    split: Split


class Turns:
    """Gives out the listings of a plan, each attribute by an order of its own (see `plan`).

    Args:
        plan: the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._known = plan.known
        self._missing = dict(plan.missing)
        self._rest = {
            cell: _lacking(plan.queues[cell.vertical, cell.split], cell.attribute, plan.known) for cell in plan.missing
        }

    def round(self) -> list[Ask]:
        """What to ask next: for every label that is missing, the next listing of its split; empty when none is left.

        Splits grow in proportion, train first, and verticals take turns. So a budget that ends early leaves labels in
        each.
        """
        asked: dict[tuple[str, Split], dict[str, Ask]] = defaultdict(dict)
        for cell, wanted in self._missing.items():
            asks = asked[cell.vertical, cell.split]
            for listing in islice(self._rest[cell], wanted):
                before = asks[listing.id].attributes if listing.id in asks else ()
                asks[listing.id] = Ask(listing, (*before, cell.attribute), cell.split)
            self._missing[cell] = 0
        rows: dict[str, list[tuple[float, int, Ask]]] = defaultdict(list)
        for (vertical, split), asks in asked.items():
            ordered = sorted(asks.values(), key=lambda ask: place(ask.listing.id, self._known))
            rows[vertical] += [(k / len(ordered), SPLITS.index(split), ask) for k, ask in enumerate(ordered)]
        by_turn = [[ask for _, _, ask in sorted(row, key=lambda item: item[:2])] for row in rows.values()]
        return [ask for turn in zip_longest(*by_turn) for ask in turn if ask is not None]

    def again(self, ask: Ask, attributes: Collection[str]) -> None:
        """These attributes of a listing got no label: the next listing of the split takes its place."""
        for attribute in attributes:
            self._missing[Cell(ask.listing.vertical, attribute, ask.split)] += 1


def _lacking(queue: list[Listing], attribute: str, known: Mapping[str, Collection[str]]) -> Iterator[Listing]:
    return (listing for listing in queue if attribute not in known.get(listing.id, ()))
