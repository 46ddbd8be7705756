"""Samples reasoning-and-answer chains: several per (listing, attribute), spread over the listing's views."""

import time

import polars as pl

from attrloop.components.catalogue.records import Chain, Listing, to_frame
from attrloop.components.engines.chains import readable, sample_listings
from attrloop.components.engines.engine import Engine
from attrloop.components.engines.registry import open_engine
from attrloop.components.gold.sampled import listings_to_sample, sampled_ids
from attrloop.components.gold.splits import ensure_splits
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import ASKED, BASE_MODEL, READABLE, MadeFrom, trained
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.shards import Shards
from attrloop.components.run.workspace import Workspace

VERSION = 1  # of how chains are drawn
_ORDER = ("listing", "attribute", "view", "chain")  # of the rows in a shard


@reports("share-out", only_failure=True)
def share_out(workspace: str, stage: str, adapter: str, workers: int) -> list[str]:
    """Begins the sampling of an iteration and divides it between workers.

    Old chains are removed here, before the workers start: a worker must not remove what another has made.

    Args:
        workspace: URI of the run's workspace.
        stage: `iteration-<k>`.
        adapter: path of the adapter that samples.
        workers: how many may sample at once.

    Returns:
        Each worker's share (see `sample`); none is empty.

    Raises:
        AttrloopError: nothing to sample.
    """
    ws = Workspace.open(workspace)
    ensure_splits(ws)
    artifact = begin(ws, stage, adapter)
    return _shards(ws, artifact, listings_to_sample(ws)).divide(workers)


@reports("sample-chains")
def sample(workspace: str, stage: str, adapter: str, share: str = "1/1") -> str:
    """Samples the chains of one iteration. Finished shards are kept, and a killed run ends with the same chains.

    Args:
        workspace: URI of the run's workspace.
        stage: `iteration-<k>`; writes `<stage>/chains/shard-<n>.parquet` of `records.Chain` rows, with all chains of a
            listing in one shard.
        adapter: path of the adapter that samples.
        share: `k/n`: every n-th shard from the k-th on, for n workers. The worker that makes the last shard finishes
            the chains.

    Returns:
        The chains' folder in the workspace.

    Raises:
        AttrloopError: nothing to sample, or more listings with unreadable images than `data.max_bad_images`.
    """
    started, ws = time.monotonic(), Workspace.open(workspace)
    ensure_splits(ws)
    artifact = begin(ws, stage, adapter)
    if artifact.manifest is not None:
        reused(artifact.path)
        return artifact.path
    listings = listings_to_sample(ws)
    shards = _shards(ws, artifact, listings)
    engine: Engine | None = None  # not needed if everything is reused
    sampled = answered = 0

    def chains(part: list[Listing]) -> pl.DataFrame:
        nonlocal engine, sampled, answered
        engine = engine or open_engine(ws, adapter)
        rows = list(sample_listings(ws, engine, readable(engine, part), stage))
        engine.forget()
        sampled, answered = sampled + len(rows), answered + sum(row.answer is not None for row in rows)
        figure("answered", round(answered / max(sampled, 1), 4))  # the fraction of chains with an answer from the list
        return to_frame(sorted(rows, key=lambda row: [getattr(row, name) for name in _ORDER]), Chain)

    shards.make(f"{stage} chains", listings, chains, share)
    shards.finish("chains", ws.config.data.max_bad_images, time.monotonic() - started)
    return artifact.path


def begin(ws: Workspace, stage: str, adapter: str) -> Artifact:
    """Opens the artifact of an iteration's chains.

    Raises:
        InputError: the labels, the splits or the adapter are not finished.
    """
    sources = {"labels": layout.ANNOTATE, **trained(adapter)}
    config = (*BASE_MODEL, "prompt", "sample", *READABLE)
    made_from = MadeFrom(VERSION, sources, config=config, reads=ASKED, listings=sampled_ids)
    return Artifact.begin(ws, layout.chains(stage), made_from)


def _shards(ws: Workspace, artifact: Artifact, listings: list[Listing]) -> Shards:
    return Shards(artifact, len(listings), ws.config.sample.shard_size)
