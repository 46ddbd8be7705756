"""Chains of listings: every attribute asked several times, spread over the listing's views."""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.catalogue.records import Chain, Listing
from attrloop.components.engines.engine import Decoding, Engine, Generation
from attrloop.components.errors import InputError
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)


def readable(engine: Engine, listings: list[Listing]) -> list[Listing]:
    """The listings whose images can all be opened. The others are logged and left out."""
    try:
        engine.prepare([image for listing in listings for image in listing.images])
        return listings
    except InputError as error:
        if len(listings) == 1:
            log.warning("skipping listing %s: %s", listings[0].id, error.problems[0])
            return []
    return [listing for one in listings for listing in readable(engine, [one])]


def chains_per_view(chains: int, views: int) -> list[int]:
    """How many of a number of chains each view gets: as even as possible, the earlier views first."""
    return [chains // views + (k < chains % views) for k in range(views)]


def sample_listings(ws: Workspace, engine: Engine, listings: list[Listing], stage: str) -> Iterator[Chain]:
    """The chains of some listings, as `sample` in the config has it.

    What is drawn for a chain depends on the seed, the stage, and the chain's own listing, attribute, view and number.

    Args:
        ws: the run's workspace.
        engine: what decodes.
        listings: with images that can be opened (see `readable`).
        stage: part of every key, so that each iteration draws other chains.

    Yields:
        Chains, in no particular order.
    """
    config, groups = ws.config.sample, dict[int, list[_Task]]()
    for listing, attribute in prompts.tasks_of(listings, ws.schema):
        views = prompts.views_of(listing, config.views)
        for view, count in zip(views, chains_per_view(config.chains, len(views)), strict=True):
            groups.setdefault(count, []).append(_Task(listing, attribute, view))
    for count, tasks in groups.items():
        if not count:
            continue
        batch = [Prompt(ws.question(t.listing, t.attribute), prompts.shown(t.listing, t.view)) for t in tasks]
        keys = [f"{ws.config.seed}/{stage}/{t.listing.id}/{t.attribute}/{t.view}" for t in tasks]
        decoding = Decoding(config.max_new_tokens, config.batch_size, count, config.temperature, config.top_p)
        for k, generations in engine.generate(batch, decoding, keys):
            yield from _chains(ws, tasks[k], generations)


class _Task(NamedTuple):
    listing: Listing
    attribute: str
    view: int


def _chains(ws: Workspace, task: _Task, generations: list[Generation]) -> Iterator[Chain]:
    listing, attribute, view = task
    closed_list = ws.schema.attribute(listing.vertical, attribute)
    for number, made in enumerate(generations):
        yield Chain(
            listing=listing.id,
            vertical=listing.vertical,
            attribute=attribute,
            view=view,
            chain=number,
            text=made.text,
            answer=prompts.answer_of(made.text, closed_list) if made.finished else None,
            logprob=sum(made.logprobs),
            tokens=made.tokens,
        )
