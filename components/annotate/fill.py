"""Adds the labels that a plan misses, with the annotator."""

import logging
from dataclasses import dataclass, field

from attrloop.components.annotate.cache import CUT_OFF
from attrloop.components.annotate.label import Labeller, Reply
from attrloop.components.annotate.plan import Plan
from attrloop.components.annotate.turns import Turns
from attrloop.components.catalogue.prompts import LONGEST_RATIONALE, cut
from attrloop.components.catalogue.records import Label
from attrloop.components.errors import Problem, fail
from attrloop.components.run.progress import progress

log = logging.getLogger(__name__)


@dataclass
class Filling:
    """What the annotator has added.

    Attributes:
        labels: the labels.
        bad: listings with unreadable images, a problem each.
        asked: listings with a reply, usable or not.
        cached: those of them that nothing was paid for now.
    """

    labels: list[Label] = field(default_factory=list)
    bad: list[Problem] = field(default_factory=list)
    asked: int = 0
    cached: int = 0


def fill(plan: Plan, labeller: Labeller) -> Filling:
    """Asks in rounds.

    A listing without a usable reply is replaced in the next round by the next listing of its split. No other split
    changes by that. Once the budget has ended, replies that were paid for before are still used.

    Raises:
        InputError: more replies are unusable than `annotate.max_failed` allows, or the annotator cannot be used.
    """
    filling, turns = Filling(), Turns(plan)
    asks = turns.round()
    if not asks:
        return filling
    with progress("annotate", len(asks), "listings") as bar:
        while asks and not labeller.hopeless:
            for reply in labeller.replies(asks, bar.advance):
                turns.again(reply.ask, _take(filling, reply))
            asks = turns.round()
    if labeller.budget.reached:
        log.warning("stopped at %s; labels so far are kept", labeller.budget.reached)
    _check_failed(labeller, filling)
    return filling


def _take(filling: Filling, reply: Reply) -> list[str]:
    """Adds the labels of a reply; returns the attributes that the next listing is to be asked for in its place."""
    ask = reply.ask
    if reply.bad is not None:
        where = f"listing {ask.listing.id}"
        filling.bad.append(Problem(f"{where}, image {reply.bad.where}", reply.bad.what, reply.bad.remedy))
        return list(ask.attributes)
    if reply.ended and not reply.answers:
        return []
    filling.asked += 1
    filling.cached += reply.cached
    answers = reply.answers
    for attribute in ask.attributes:
        if answer := answers.get(attribute):
            filling.labels.append(
                Label(
                    listing=ask.listing.id,
                    attribute=attribute,
                    value=answer.value,
                    rationale=cut(answer.rationale, LONGEST_RATIONALE),
                    source="api",
                    cost=answer.cost,
                    split=ask.split,
                )
            )
    return [] if reply.ended else [attribute for attribute in ask.attributes if attribute not in answers]


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
