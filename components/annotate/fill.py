"""Fills the plan's places with the API's labels, vertical by vertical in turn."""

import logging
from dataclasses import dataclass, field
from itertools import zip_longest

from attrloop.components.annotate.label import Labeller, Reply
from attrloop.components.annotate.plan import Plan, Split
from attrloop.components.catalogue.records import Label, Listing
from attrloop.components.errors import Problem, fail
from attrloop.components.run.progress import progress

log = logging.getLogger(__name__)


@dataclass
class Filling:
    """What the API has filled.

    Attributes:
        asked: listings with a reply, usable or not.
        cached: of these, from the cache.
        short: places that stayed empty, by vertical.
    """

    labels: list[Label] = field(default_factory=list)
    bad: list[Problem] = field(default_factory=list)
    asked: int = 0
    cached: int = 0
    short: dict[str, int] = field(default_factory=dict)


def fill(plan: Plan, labeller: Labeller) -> Filling:
    """Fills the plan's slots in rounds: a listing without a usable reply is replaced by the vertical's next in the following round.

    Verticals take turns within a round, so a budget that ends early ends for all of them.

    Raises:
        InputError: more unusable replies than `annotate.max_failed` allows, and what `Labeller.replies` raises.
    """
    filling = Filling()
    if not plan.wanted:
        return filling
    slots = {vertical: list(places) for vertical, places in plan.slots.items()}
    queues = {vertical: list(reversed(listings)) for vertical, listings in plan.candidates.items()}
    with progress("annotate", plan.wanted, "listings") as bar:
        while jobs := [queue.pop() for queue in turns(slots, queues)]:
            replies = labeller.replies(jobs, bar.advance)
            for reply in replies:
                _take(filling, slots[reply.listing.vertical], reply)
            if labeller.hopeless:
                break
            if len(replies) < len(jobs):
                log.warning("stopped at %s; the labels so far are kept", labeller.budget.reached)
                break
    _check_failed(labeller, filling)
    filling.short = {vertical: len(places) for vertical, places in slots.items() if places}
    return filling


def turns(slots: dict[str, list[Split]], queues: dict[str, list[Listing]]) -> list[list[Listing]]:
    """For one round, the queues to take from: each as often as it has both places and listings, in turn."""
    rows = [[queues[vertical]] * min(len(slots[vertical]), len(queues[vertical])) for vertical in slots]
    return [queue for turn in zip_longest(*rows) for queue in turn if queue is not None]


def _take(filling: Filling, places: list[Split], reply: Reply) -> None:
    if reply.bad is not None or reply.paid is None:
        where = f"listing {reply.listing.id}"
        filling.bad += (
            [Problem(f"{where}, image {reply.bad.where}", reply.bad.what, reply.bad.remedy)] if reply.bad else []
        )
        return
    filling.asked += 1
    filling.cached += reply.cached
    if reply.paid.answers is None:
        return
    split, cost = places.pop(0), reply.paid.cost / len(reply.paid.answers)
    for attribute, (rationale, value) in reply.paid.answers.items():
        filling.labels.append(
            Label(
                listing=reply.listing.id,
                attribute=attribute,
                value=value,
                rationale=rationale,
                source="api",
                cost=cost,
                split=split,
            )
        )


def _check_failed(labeller: Labeller, filling: Filling) -> None:
    failed, share = len(labeller.failed), labeller.ws.config.annotate.max_failed
    if not labeller.hopeless and failed <= share * filling.asked + 1e-9:
        return
    example = labeller.failed[0]
    for paid in labeller.failed:
        labeller.cache.forget(paid)  # or a mended endpoint would never be asked again
    config = labeller.ws.config.annotate
    raise fail(
        f"{config.base_url} (model {config.model})",
        f"{failed} unusable replies for {max(filling.asked, failed)} listings, more than annotate.max_failed = {share:g} allows; "
        f"for example for listing {example.listing}: {example.failed}",
        "Use a model that sees images and follows a JSON schema, or raise annotate.max_failed; usable replies are kept",
    )
