"""Samples reasoning-and-answer chains: several per (listing, attribute), spread over the listing's views, in parts that several workers share."""

import logging
import random
import time
from collections.abc import Iterator

import polars as pl

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.catalogue.records import Chain, Listing, to_frame
from attrloop.components.engines.engine import Decoding, Engine
from attrloop.components.engines.registry import open_engine
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.artifact import Artifact, read_manifest
from attrloop.components.run.config import SampleConfig
from attrloop.components.run.progress import progress
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.shards import divide, parse_share
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)


def share_out(workspace: str, stage: str, adapter: str, workers: int) -> list[str]:
    """Begins the sampling of an iteration, so that of several workers none finds what was made from other inputs, and divides it.

    Args:
        workers: how many may sample at once.

    Returns:
        Each worker's share (see `sample`), of which none is empty.

    Raises:
        AttrloopError: nothing to sample.
    """
    ws = Workspace.open(workspace)
    _begin(ws, stage, adapter)
    return divide(min(workers, len(_parts(ws))))


@reports("sample-chains")
def sample(workspace: str, stage: str, adapter: str, share: str = "1/1") -> str:
    """Samples the chains of one iteration; finished parts are kept, and every chain is the same however often the run was killed.

    Several workers may sample at once. Which parts there are does not depend on their number; whoever has made the last part finishes the stage.

    Args:
        workspace: URI of the run's workspace.
        stage: `iteration-<k>`; writes `<stage>/chains/part-<n>.parquet` of `records.Chain` rows. A (listing, attribute) never crosses a part.
        adapter: path of the adapter that samples.
        share: `k/n`: every n-th part from the k-th on, for n workers.

    Returns:
        The chains' folder in the workspace.

    Raises:
        AttrloopError: nothing to sample, or more listings with unreadable images than `data.max_bad_images`.
    """
    ws = Workspace.open(workspace)
    output = _begin(ws, stage, adapter)
    if output.manifest is not None:
        reused(output.path)
        return output.path
    started = time.monotonic()
    parts, (worker, workers) = _parts(ws), parse_share(share)
    mine = list(parts)[worker::workers]
    engine: Engine | None = None  # not needed where everything is reused
    with progress(f"{stage} chains", sum(len(parts[name]) for name in mine), "listings") as bar:
        for name in mine:
            if not (output.folder / name).exists():
                engine = engine or open_engine(ws, adapter)
                _write(ws, engine, parts[name], stage, output, name)
            bar.advance(len(parts[name]))
    missing = {f"{output.path}/{name}" for name in parts} - set(ws.store.list(output.path))
    if missing:
        log.info("%d of %d parts are still to be made by other workers", len(missing), len(parts))
    else:
        _finish(ws, output, parts, started)
    return output.path


def _begin(ws: Workspace, stage: str, adapter: str) -> Artifact:
    upstream = {
        name: read_manifest(ws.store, path)
        for name, path in (("labels", "annotate"), ("adapter", adapter.removesuffix("/adapter")))
    }
    made_from = {name: manifest.digest if manifest else "" for name, manifest in upstream.items()}
    return Artifact(
        ws.store,
        f"{stage}/chains",
        made_from | {"config": ws.config.digest("model", "prompt", "sample"), "data": ws.data_digest},
    )


def _parts(ws: Workspace) -> dict[str, list[Listing]]:
    """The listings of every part, by its file name, in order."""
    listings, size = listings_to_sample(ws), ws.config.sample.shard_size
    return {
        f"part-{number:05d}.parquet": listings[start : start + size]
        for number, start in enumerate(range(0, len(listings), size))
    }


def _finish(ws: Workspace, output: Artifact, parts: dict[str, list[Listing]], started: float) -> None:
    folder = ws.store.folder(output.path)  # what other workers have made too
    total = sum(map(len, parts.values()))
    sampled = pl.scan_parquet([folder / name for name in parts]).select(pl.col("listing").n_unique()).collect().item()
    _check_skipped(total - sampled, total, ws.config.data.max_bad_images)
    counts = {
        "listings": sampled,
        "skipped": total - sampled,
        "shards": len(parts),
        "seconds": time.monotonic() - started,
    }
    output.finish("chains", counts, parts)


def listings_to_sample(ws: Workspace) -> list[Listing]:
    """Unlabelled listings (at most `sample.max_listings`, drawn by seed) in catalogue order, then the labelled training and validation ones.

    Labelled listings are sampled too: the consensus gate and the labelled pairs need their chains.
    """
    unlabelled, bound = ws.unlabelled(), ws.config.sample.max_listings
    if bound and bound < len(unlabelled):
        chosen = set(random.Random(f"{ws.config.seed}/sample").sample([listing.id for listing in unlabelled], bound))
        unlabelled = [listing for listing in unlabelled if listing.id in chosen]
    labelled = {label.listing for split in ("train", "validation") for label in ws.labels(split)}
    listings = unlabelled + [listing for listing in ws.listings.values() if listing.id in labelled]
    if not listings:
        raise AttrloopError("There are no listings to sample chains for. Add unlabelled listings to the catalogue.")
    return listings


def chains_per_view(config: SampleConfig, views: int) -> list[int]:
    """How many of the `chains` each view gets: as even as possible, the earlier views first."""
    return [config.chains // views + (k < config.chains % views) for k in range(views)]


def readable(engine: Engine, listings: list[Listing]) -> list[Listing]:
    """The listings whose images all open; the others are logged and left out."""
    try:
        engine.prepare([image for listing in listings for image in listing.images])
        return listings
    except InputError as error:
        if len(listings) == 1:
            log.warning("skipping listing %s: %s", listings[0].id, error.problems[0])
            return []
    return [listing for one in listings for listing in readable(engine, [one])]


def _check_skipped(skipped: int, total: int, bound: float) -> None:
    if skipped > bound * total:
        raise AttrloopError(
            f"{skipped} of {total} listings have images that cannot be read (see the log). Mend them or raise data.max_bad_images."
        )


def _write(ws: Workspace, engine: Engine, shard: list[Listing], stage: str, output: Artifact, name: str) -> None:
    rows = sorted(
        sample_listings(ws, engine, readable(engine, shard), stage),
        key=lambda row: (row.listing, row.attribute, row.view, row.chain),
    )
    temporary = output.folder / f".tmp-{name}"
    to_frame(rows, Chain).write_parquet(temporary)
    temporary.rename(output.folder / name)
    output.keep(name)
    engine.forget()


def sample_listings(ws: Workspace, engine: Engine, listings: list[Listing], stage: str) -> Iterator[Chain]:
    """The chains of some listings. Each is decided by the seed, the stage, and its own listing, attribute, view and number."""
    config = ws.config.sample
    groups: dict[int, list[tuple[Listing, str, int]]] = {}
    for listing, attribute in prompts.tasks_of(listings, ws.schema):
        views = prompts.views_of(listing, config.views)
        for view, count in zip(views, chains_per_view(config, len(views)), strict=True):
            groups.setdefault(count, []).append((listing, attribute, view))
    for count, tasks in groups.items():
        if not count:
            continue
        batch = [
            Prompt(ws.question(listing, attribute), prompts.shown(listing, view)) for listing, attribute, view in tasks
        ]
        keys = [f"{ws.config.seed}/{stage}/{listing.id}/{attribute}/{view}" for listing, attribute, view in tasks]
        decoding = Decoding(config.max_new_tokens, config.batch_size, count, config.temperature, config.top_p)
        made = engine.generate(batch, decoding, keys)
        for k, generations in made:
            listing, name, view = tasks[k]
            closed_list = ws.schema.attribute(listing.vertical, name)
            for number, item in enumerate(generations):
                answer = prompts.answer_of(item.text, closed_list) if item.finished else None
                yield Chain(
                    listing=listing.id, vertical=listing.vertical, attribute=name, view=view, chain=number,
                    text=item.text, answer=answer, logprob=sum(item.logprobs), tokens=item.tokens,
                )  # fmt: skip
