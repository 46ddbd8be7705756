"""Labels a budgeted sample of the catalogue, uniform over verticals, and puts every labelled listing into exactly one split."""

import json
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from attrloop.components.annotate.cache import Cache
from attrloop.components.annotate.fill import Filling, fill
from attrloop.components.annotate.label import Labeller, ahead
from attrloop.components.annotate.plan import SPLITS, Plan, made_from, make_plan
from attrloop.components.catalogue.records import Label, Listing, read_labels
from attrloop.components.errors import InputError, Problem
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic

log = logging.getLogger(__name__)


@reports("annotate")
def annotate(workspace: str) -> None:
    """Writes `annotate/labels.jsonl` and `annotate/report.json`; replies are kept in `annotate-cache/`.

    Args:
        workspace: URI of the run's workspace.

    Raises:
        InputError: labels that contradict one another, no key, an unusable endpoint, too many unusable replies or unreadable images, a full disk,
            or a vertical left without any training label. What was answered until then is kept.
    """
    started = time.monotonic()
    ws = Workspace.open(workspace)
    stage = Artifact(ws.store, "annotate", made_from(ws))
    if stage.manifest is not None:
        reused(f"the labels in {stage.folder}")
        return
    given = read_labels(ws.config.data.labels, ws.schema, ws.listings) if ws.config.data.labels else []
    plan, bad = plan_readable(ws, given)
    cache = Cache(ws.store)
    labeller = Labeller(ws, cache, plan.wanted)
    try:
        filling = fill(plan, labeller)
    finally:
        labeller.close()
        cache.close()
    bad += filling.bad
    check_images(ws, bad, looked_at=len({label.listing for label in plan.given}) + filling.asked + len(bad))
    labels = plan.given + filling.labels
    report = make_report(ws, plan, filling, labeller, labels, bad)
    write_atomic(stage.folder / "report.json", json.dumps(report, indent=1).encode())
    stage.keep("report.json")
    check_train(ws, labels, labeller)
    write_atomic(stage.folder / "labels.jsonl", "".join(label.model_dump_json() + "\n" for label in labels).encode())
    counts = {
        "listings": len({label.listing for label in labels}),
        "labels": len(labels),
        "calls": labeller.calls,
        "cost": cache.spent,
    }
    figure("US dollars", round(cache.spent, 4))
    # The report tells how this process went about it; only the labels are what others build on.
    stage.finish("labels", counts | {"seconds": time.monotonic() - started}, ["labels.jsonl"])
    log.info("%(labels)d labels of %(listings)d listings; %(calls)d calls, %(cost).4f US dollars in all", counts)


def plan_readable(ws: Workspace, given: list[Label]) -> tuple[Plan, list[Problem]]:
    """The plan made of given labels whose listings' images all open, and the problems of those left out."""
    problems: list[Problem] = []
    good: set[str] = set()
    while True:
        plan = make_plan(ws.config, ws.schema, ws.listings, given)
        new = sorted({label.listing for label in plan.given} - good)
        with ThreadPoolExecutor(4) as pool:
            found = dict(zip(new, ahead(pool, lambda key: _unreadable(ws, ws.listings[key]), new, 64), strict=True))
        if not any(found.values()):
            return plan, problems
        problems += [problem for problem in found.values() if problem]
        good |= {key for key, problem in found.items() if not problem}
        given = [label for label in given if not found.get(label.listing)]


def _unreadable(ws: Workspace, listing: Listing) -> Problem | None:
    return next((found for name in listing.images if (found := ws.images.check(name, f"listing {listing.id}"))), None)


def check_images(ws: Workspace, bad: list[Problem], looked_at: int) -> None:
    """Raises when too many listings have images that cannot be read.

    Raises:
        InputError: above `data.max_bad_images`, with every problem.
    """
    if len(bad) > ws.config.data.max_bad_images * looked_at:
        what = f"{len(bad)} of {looked_at} listings have unreadable images, more than data.max_bad_images = {ws.config.data.max_bad_images:g} allows"
        raise InputError([Problem(ws.config.data.listings, what, "Mend the images below or raise the cap"), *bad])


def check_train(ws: Workspace, labels: list[Label], labeller: Labeller) -> None:
    """Raises when a vertical has nothing to train on.

    Raises:
        InputError: naming every such vertical.
    """
    have = {ws.listings[label.listing].vertical for label in labels if label.split == "train"}
    cap = labeller.budget.reached
    why = f" (stopped at {cap})" if cap else ""
    remedy = (
        f"Raise {cap}; what was paid for is kept"
        if cap
        else "Add listings of it, raise annotate.train_per_vertical, or take it out of the schema"
    )
    missing = [
        Problem(f"vertical {name}", f"not one training label{why}", remedy)
        for name in ws.schema.verticals
        if name not in have
    ]
    if missing:
        raise InputError(missing)


def make_report(
    ws: Workspace, plan: Plan, filling: Filling, labeller: Labeller, labels: list[Label], bad: list[Problem]
) -> dict[str, Any]:
    """What was done and what it cost.

    `cost` and `tokens` are of everything this workspace ever paid for, `calls` and `attempts` (with the SDK's retries) of this process alone.
    """
    config = ws.config.annotate
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
        "short": filling.short,
        "listings": _table(ws, {label.listing: label for label in labels}.values()),
        "labels": _table(ws, labels),
    }


def _table(ws: Workspace, labels: Iterable[Label]) -> dict[str, dict[str, int]]:
    """How many, by split and vertical."""
    table: dict[str, dict[str, int]] = {split: dict.fromkeys(ws.schema.verticals, 0) for split in SPLITS}
    for label in labels:
        table[label.split or ""][ws.listings[label.listing].vertical] += 1
    return table
