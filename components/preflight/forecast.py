"""What a run will take at most: API calls and money, chains and tokens, disk."""

import os
import shutil
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from attrloop.components.annotate.charge import cost_limit
from attrloop.components.annotate.plan import Plan
from attrloop.components.annotate.request import answer_model, make_request, some_of
from attrloop.components.annotate.turns import Ask
from attrloop.components.catalogue.prompts import known_of
from attrloop.components.catalogue.records import Listing
from attrloop.components.errors import Problem
from attrloop.components.preflight.data import Catalogue
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import RunConfig
from attrloop.components.storage.local import existing

_ROOM = 200_000_000  # bytes for reports, the tracking database, logs
_CHAIN = 200  # bytes of a chain's row without its text
_TOKEN = 5  # bytes of a token: its text, and a number in Parquet
_PATCH = 28 * 28  # pixels of a visual token, as in Qwen2.5-VL
# Per stage: the adapter, a checkpoint with both moments of Adam, the previous checkpoint, the registered version.
_ADAPTER_COPIES = 6


@dataclass(frozen=True)
class Forecast:
    """Upper bounds.

    Attributes:
        wanted: listings for the API to label.
        calls: API requests for them, including unusable replies up to `annotate.max_failed`.
        cost: of these requests, in US dollars.
        chains: sampled in all iterations together.
        tokens: of these chains.
        disk: bytes.
    """

    wanted: int
    calls: int
    cost: float
    chains: int
    tokens: int
    disk: int


def forecast(config: RunConfig, catalogue: Catalogue, model: dict[str, Any]) -> Forecast | None:
    """The forecast; None when the data is faulty.

    Args:
        config: the run's config.
        catalogue: its data.
        model: what `probe` found out about the base model.
    """
    if catalogue.plan is None or catalogue.schema is None:
        return None
    calls, cost = 0, 0.0
    for vertical in catalogue.schema.verticals:
        asks = [ask for ask in catalogue.asks if ask.listing.vertical == vertical]
        if asks:
            more, dearest = _calls(config, catalogue.plan, asks), _costs(config, catalogue, vertical, asks)
            calls += more
            cost += sum(dearest[ask.attributes] for ask in asks) + (more - len(asks)) * max(dearest.values())
    chains = _chains(config, catalogue) * config.loop.iterations
    disk = _disk(config, catalogue, _images(config, catalogue), chains, model)
    return Forecast(len(catalogue.asks), calls, cost, chains, chains * config.sample.max_new_tokens, disk)


def _calls(config: RunConfig, plan: Plan, asks: list[Ask]) -> int:
    """If a fraction f of the replies may be unusable, w usable ones take at most w / (1 - f) requests."""
    failed = config.annotate.max_failed
    there = sum(len(plan.queues[key]) for key in {(ask.listing.vertical, ask.split) for ask in asks})
    return min(there, floor(len(asks) / (1 - failed) + 1e-9)) if failed < 1 else there


def _costs(config: RunConfig, catalogue: Catalogue, vertical: str, asks: list[Ask]) -> dict[tuple[str, ...], float]:
    """Upper estimate of a request's cost, by the attributes that it asks for.

    It is that of the listing of the vertical with the longest title and metadata.
    """
    assert catalogue.plan is not None and catalogue.schema is not None
    queues = [queue for (name, _), queue in catalogue.plan.queues.items() if name == vertical]
    listings = [listing for queue in queues for listing in queue]
    longest = max(listings, key=lambda row: len("".join(known_of(row, ": ")).encode()))
    images = min(config.annotate.max_images, max(len(row.images) for row in listings))
    costs = {}
    for attributes in {ask.attributes for ask in asks}:
        entry = some_of(catalogue.schema.verticals[vertical], attributes)
        request = make_request(longest, entry, answer_model(entry), config.annotate, [])
        costs[attributes] = cost_limit(config.annotate, request, images)
    return costs


def _learnt_from(config: RunConfig, catalogue: Catalogue) -> tuple[list[Listing], list[Listing], float]:
    """Listings with labels that are no test gold, those without that are learnt from, and the part of them sampled."""
    assert catalogue.plan is not None
    tested = {ask.listing.id for ask in catalogue.asks if ask.split == "test"}
    tested |= {label.listing for label in catalogue.plan.given if label.split == "test"}
    labelled = [catalogue.listings[key] for key in catalogue.labelled - tested]
    free, bound = catalogue.unlabelled, config.sample.max_listings
    return labelled, free, min(bound or len(free), len(free)) / max(len(free), 1)


def _chains(config: RunConfig, catalogue: Catalogue) -> int:
    """Chains of one iteration: for unlabelled listings, and for labelled ones that are not in the test split."""
    assert catalogue.schema is not None
    attributes = {vertical: len(entry.attributes) for vertical, entry in catalogue.schema.verticals.items()}
    labelled, free, sampled = _learnt_from(config, catalogue)
    total, rest = (sum(attributes[row.vertical] for row in rows) for rows in (labelled, free))
    return (total + round(rest * sampled)) * config.sample.chains


def _images(config: RunConfig, catalogue: Catalogue) -> int:
    """Images that some step encodes: of labelled listings, and of unlabelled ones that are sampled.

    DPO keeps the features of its images even if the sampling engine keeps none.
    """
    _, free, sampled = _learnt_from(config, catalogue)
    labelled = sum(len(catalogue.listings[key].images) for key in catalogue.labelled)
    return labelled + (round(sum(len(row.images) for row in free) * sampled) if config.loop.iterations else 0)


def _number_bytes(dtype: str) -> int:
    """Bytes of a feature's number. On a cluster, steps that encode images have a GPU even if this one has none."""
    gpu = shutil.which("nvidia-smi") is not None or "KUBERNETES_SERVICE_HOST" in os.environ
    return 2 if dtype == "bfloat16" or (dtype == "auto" and gpu) else 4


def _disk(config: RunConfig, catalogue: Catalogue, images: int, chains: int, model: dict[str, Any]) -> int:
    """Bytes of cached visual features, chains, and adapters with their checkpoints."""
    pixels = min(config.model.max_pixels, catalogue.pixels or config.model.max_pixels)
    features = images * (pixels / _PATCH + 1) * model.get("hidden", 2048) * _number_bytes(config.model.dtype)
    adapters = (
        config.model.lora_rank
        * model.get("target_sizes", 2_000_000)
        * 4
        * _ADAPTER_COPIES
        * (config.loop.iterations + 1)
    )
    return _ROOM + round(features + adapters) + chains * (_CHAIN + config.sample.max_new_tokens * _TOKEN)


def check_budget(config: RunConfig, found: Forecast | None) -> Finding:
    """The annotations fit the budgets of calls and of money."""
    finding, annotate = Finding("budget"), config.annotate
    if found is None:
        finding.detail, finding.note = "no forecast: fix the data first", True
        return finding
    finding.detail = (
        f"at most {found.calls:,} API calls and {found.cost:,.2f} US dollars "
        f"(caps: {annotate.max_calls:,} and {annotate.max_cost:,.2f})"
    )
    fewer = "or lower annotate.*_per_vertical"
    if found.cost > annotate.max_cost:
        what = f"annotation may cost {found.cost:,.2f} US dollars, the cap is {annotate.max_cost:,.2f}"
        finding.problems.append(Problem("annotate.max_cost", what, f"Raise it, {fewer}"))
    if found.wanted > annotate.max_calls:
        what = f"{found.wanted:,} listings are to be annotated, the cap is {annotate.max_calls:,} calls"
        finding.problems.append(Problem("annotate.max_calls", what, f"Raise it, {fewer}"))
    return finding


def check_work(config: RunConfig, found: Forecast | None) -> Finding:
    """How much will be sampled; this never stops a run."""
    if found is None:
        return Finding("work", "no forecast: fix the data first", note=True)
    return Finding(
        "work", f"{found.chains:,} chains in {config.loop.iterations} iterations, at most {found.tokens:,} tokens"
    )


def check_disk(folder: Path, found: Forecast | None) -> Finding:
    """There is enough free space where the run works on this machine."""
    place, need = existing(folder), found.disk if found else _ROOM
    free = shutil.disk_usage(place).free
    finding = Finding("disk", f"{free / 1e9:,.1f} GB free, about {need / 1e9:,.1f} GB needed")
    if free < need:
        what = f"{free / 1e9:,.2f} GB are free, about {need / 1e9:,.2f} GB are needed"
        finding.problems.append(Problem(f"workspace {folder}", what, "Free some space or choose another folder"))
    return finding
