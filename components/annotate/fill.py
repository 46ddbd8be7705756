"""Fills the places of a plan with the annotator's labels; the verticals take turns."""

import logging
from dataclasses import dataclass, field
from itertools import zip_longest

from attrloop.components.annotate.cache import CUT_OFF
from attrloop.components.annotate.label import Labeller, Reply
from attrloop.components.annotate.plan import Plan
from attrloop.components.catalogue.records import Label, Listing, Split
from attrloop.components.errors import Problem, fail
from attrloop.components.run.progress import progress

log = logging.getLogger(__name__)


@dataclass
class Filling:
    """What the annotator has filled.

    Attributes:
        labels: the labels.
        bad: listings with unreadable images, a problem each.
        asked: listings with a reply, usable or not.
        cached: those of them whose reply came from the cache.
        short: places that stayed empty, by vertical.
    """

    labels: list[Label] = field(default_factory=list)
    bad: list[Problem] = field(default_factory=list)
    asked: int = 0
    cached: int = 0
    short: dict[str, int] = field(default_factory=dict)


def fill(plan: Plan, labeller: Labeller) -> Filling:
    """Fills the plan's places in rounds.

    A listing without a usable reply is replaced in the next round by the next listing of its vertical. The verticals
    take turns within a round, so a budget that ends early leaves labels in all of them.

    Raises:
        InputError: more replies are unusable than `annotate.max_failed` allows, or the annotator cannot be used.
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
                log.warning("stopped at %s; labels so far are kept", labeller.budget.reached)
                break
    _check_failed(labeller, filling)
    filling.short = {vertical: len(places) for vertical, places in slots.items() if places}
    return filling


def turns(slots: dict[str, list[Split]], queues: dict[str, list[Listing]]) -> list[list[Listing]]:
    """The queues to take from in one round: in turn, and each as often as its vertical has both places and listings."""
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
    failed, config = len(labeller.failed), labeller.ws.config.annotate
    if not labeller.hopeless and failed <= config.max_failed * filling.asked + 1e-9:
        return
    example = labeller.failed[0]
    for paid in labeller.failed:
        labeller.cache.forget(paid)  # otherwise these would not be asked again once the annotator is repaired
    raise fail(
        f"{config.base_url} (model {config.model})",
        f"{failed} unusable replies for {max(filling.asked, failed)} listings, more than "
        f"annotate.max_failed = {config.max_failed:g} allows; "
        f"for example for listing {example.listing}: {example.failed}",
        f"{_remedy(example.failed)}, or raise annotate.max_failed; usable replies are kept",
    )


def _remedy(failed: str) -> str:
    if failed.startswith(CUT_OFF):
        return "Raise annotate.thinking_tokens if the model thinks before it replies; else use another model"
    if failed.startswith("HTTP 5"):
        return "Look at the server's log"
    return "Use a model that sees images and follows a JSON schema"
