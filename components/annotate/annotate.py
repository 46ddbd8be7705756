"""Labels a sample of the catalogue, as much of every vertical, and puts each labelled listing into one split."""

import json
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from attrloop.components.annotate.cache import Cache
from attrloop.components.annotate.fill import Filling, fill
from attrloop.components.annotate.label import Labeller, ahead
from attrloop.components.annotate.plan import MORE_LABELS, Plan, made_from, make_plan, shortfalls, tally
from attrloop.components.annotate.turns import Turns
from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.records import SPLITS, Label, Listing
from attrloop.components.errors import InputError, Problem
from attrloop.components.gold.decide import Splits
from attrloop.components.gold.splits import splits_of
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic

log = logging.getLogger(__name__)


@reports("annotate")
def annotate(workspace: str) -> None:
    """Writes `annotate/labels.jsonl` and `annotate/report.json`, and keeps every reply in `annotate-cache/`.

    Args:
        workspace: URI of the run's workspace.

    Raises:
        InputError: the given labels contradict one another, the annotator cannot be used, too many replies are unusable
            or too many images unreadable, the disk is full, or a vertical has no training label. Replies so far are
            kept.
    """
    started = time.monotonic()
    ws = Workspace.open(workspace)
    splits = splits_of(ws)
    artifact = Artifact.begin(ws, layout.ANNOTATE, made_from())
    if artifact.manifest is not None:
        reused(f"the labels in {artifact.folder}")
        return
    given = read_labels(ws.config.data.labels, ws.schema, ws.listings) if ws.config.data.labels else []
    plan, bad = plan_readable(ws, given, splits)
    cache = Cache(ws.store)
    labeller = Labeller(ws, cache, len(Turns(plan).round()))
    try:
        filling = fill(plan, labeller)
    finally:
        labeller.close()
        cache.close()
    bad += filling.bad
    check_images(ws, bad, looked_at=len({label.listing for label in plan.given}) + filling.asked + len(bad))
    labels = plan.given + filling.labels
    report = make_report(ws, plan, filling, labeller, bad)
    write_atomic(artifact.folder / layout.DETAILS, json.dumps(report, indent=1).encode())
    artifact.keep(layout.DETAILS)
    check_train(ws, labels, labeller)
    rows = "".join(label.model_dump_json() + "\n" for label in labels)
    write_atomic(artifact.folder / layout.LABELS_FILE, rows.encode())
    counts = {
        "listings": len({label.listing for label in labels}),
        "labels": len(labels),
        "calls": labeller.calls,
        "cost": cache.spent,
    }
    figure("US dollars", round(cache.spent, 4))
    # The report is about this process. Only the labels decide what other steps make.
    artifact.finish("labels", counts | {"seconds": time.monotonic() - started}, [layout.LABELS_FILE], [layout.DETAILS])
    log.info("%(labels)d labels of %(listings)d listings; %(calls)d calls, %(cost).4f US dollars in all", counts)


def plan_readable(ws: Workspace, given: list[Label], splits: Splits) -> tuple[Plan, list[Problem]]:
    """Plans with the given labels of those listings whose images can all be opened.

    Returns:
        The plan, and a problem for each listing left out.
    """
    problems: list[Problem] = []
    good: set[str] = set()
    listings = dict(ws.listings)
    while True:
        plan = make_plan(ws.config, ws.schema, listings, given, splits)
        new = sorted({label.listing for label in plan.given} - good)
        with ThreadPoolExecutor(4) as pool:
            found = dict(zip(new, ahead(pool, lambda key: _unreadable(ws, ws.listings[key]), new, 64), strict=True))
        if not any(found.values()):
            return plan, problems
        problems += [problem for problem in found.values() if problem]
        good |= {key for key, problem in found.items() if not problem}
        given = [label for label in given if not found.get(label.listing)]
        listings = {key: listing for key, listing in listings.items() if not found.get(key)}


def _unreadable(ws: Workspace, listing: Listing) -> Problem | None:
    return next((found for name in listing.images if (found := ws.images.check(name, f"listing {listing.id}"))), None)


def check_images(ws: Workspace, bad: list[Problem], looked_at: int) -> None:
    """Raises an error when too many listings have images that cannot be read.

    Raises:
        InputError: with every problem, when they are more than `data.max_bad_images` allows.
    """
    cap = ws.config.data.max_bad_images
    if len(bad) > cap * looked_at:
        what = (
            f"{len(bad)} of {looked_at} listings have unreadable images, more than data.max_bad_images = {cap:g} allows"
        )
        raise InputError([Problem(ws.config.data.listings, what, "Repair the images below or raise the cap"), *bad])


def check_train(ws: Workspace, labels: list[Label], labeller: Labeller) -> None:
    """Raises an error when a vertical has nothing to train on.

    Raises:
        InputError: with every such vertical.
    """
    have = {ws.listings[label.listing].vertical for label in labels if label.split == "train"}
    cap = labeller.budget.reached
    why = f" (stopped at {cap})" if cap else ""
    remedy = (
        f"Raise {cap}; replies that were paid for are kept"
        if cap
        else "Add listings of this vertical or labels of its train split, raise annotate.train_per_vertical, or remove "
        "the vertical from the schema"
    )
    missing = [
        Problem(f"vertical {name}", f"it has no training label{why}", remedy)
        for name in ws.schema.verticals
        if name not in have
    ]
    if missing:
        raise InputError(missing)


def make_report(ws: Workspace, plan: Plan, filling: Filling, labeller: Labeller, bad: list[Problem]) -> dict[str, Any]:
    """What was done and what it cost.

    `cost` and `tokens` count everything that this workspace ever paid for. `calls` and `attempts` (which include the
    annotator's retries) count this process alone.
    """
    config, labels = ws.config.annotate, plan.given + filling.labels
    short = shortfalls(config, ws.schema, plan, tally(labels, ws.listings, plan.mixed))
    return {
        "model": config.model,
        "calls": labeller.calls,
        "attempts": labeller.attempts,
        "cached": filling.cached,
        "failed": len(labeller.failed),
        "failures": [{"listing": paid.listing, "why": paid.failed} for paid in labeller.failed[:20]],
        "bad_images": [str(problem) for problem in bad],
        "cost": labeller.cache.spent,
        "prices": {"in": config.price_in, "out": config.price_out},
        "tokens": {"prompt": labeller.cache.prompt_tokens, "completion": labeller.cache.completion_tokens},
        "stopped_at": labeller.budget.reached or None,
        "given_listings": len({label.listing for label in plan.given}),
        "given_surplus": plan.surplus,
        "given_reviewed": len(plan.reviewed),
        "given_mixed": list(plan.mixed),
        "short": [asdict(shortfall) for shortfall in short],
        "remedy": MORE_LABELS if short else "",
        "listings": _table(ws, {label.listing: label for label in labels}.values()),
        "labels": _table(ws, labels),
    }


def _table(ws: Workspace, labels: Iterable[Label]) -> dict[str, dict[str, int]]:
    """Counts labels by split and vertical."""
    table: dict[str, dict[str, int]] = {split: dict.fromkeys(ws.schema.verticals, 0) for split in SPLITS}
    for label in labels:
        table[label.split or ""][ws.listings[label.listing].vertical] += 1
    return table
