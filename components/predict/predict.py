"""Answers every attribute of every listing of a catalogue by the vote of several chains over the listing's views."""

import time

import polars as pl

from attrloop.components.catalogue.records import Chain, Listing, to_frame
from attrloop.components.engines.chains import readable, sample_listings
from attrloop.components.engines.engine import Engine
from attrloop.components.engines.registry import open_engine
from attrloop.components.predict.stream import check, listings
from attrloop.components.predict.votes import decide
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import ASKED, BASE_MODEL, READABLE, MadeFrom, trained
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.shards import Shards
from attrloop.components.run.workspace import Workspace

VERSION = 1  # of how chains are drawn, and of how their votes become a prediction


@reports("share-out", only_failure=True)
def share_out(workspace: str, adapter: str, workers: int) -> list[str]:
    """Begins the prediction and divides the catalogue between workers.

    Old predictions are removed here, before the workers start: a worker must not remove what another has made.

    Args:
        workspace: URI of the workspace.
        adapter: path of the adapter in the workspace; "" for the base model.
        workers: how many may predict at once.

    Returns:
        Each worker's share (see `predict`); none is empty.
    """
    ws = Workspace.open(workspace)
    return _shards(ws, begin(ws, adapter)).divide(workers)


@reports("predict")
def predict(workspace: str, adapter: str, share: str = "1/1") -> str:
    """Predicts the catalogue, or this worker's share of it. Finished shards are kept.

    Args:
        workspace: URI of the workspace; writes `predictions/shard-<n>.parquet` of `votes.CataloguePrediction` rows, in
            the catalogue's order.
        adapter: path of the adapter in the workspace; "" for the base model.
        share: `k/n`: every n-th shard from the k-th on, for n workers. The worker that makes the last shard finishes
            the predictions.

    Returns:
        The predictions' folder in the workspace.

    Raises:
        InputError: bad listings, found before anything is predicted.
        AttrloopError: more listings with unreadable images than `data.max_bad_images`.
    """
    started, ws = time.monotonic(), Workspace.open(workspace)
    artifact = begin(ws, adapter)
    if artifact.manifest is not None:
        reused(artifact.path)
        return artifact.path
    engine: Engine | None = None  # not needed if everything is reused
    predicted = answered = 0

    def answers(part: list[Listing]) -> pl.DataFrame:
        nonlocal engine, predicted, answered
        engine = engine or open_engine(ws, adapter, keep_images=False)
        chains = list(sample_listings(ws, engine, readable(engine, part), layout.CATALOGUE_PREDICTIONS))
        # No image is seen again: neither memory nor disk grows with the catalogue.
        engine.forget()
        ws.images.forget(image for listing in part for image in listing.images)
        found = decide(to_frame(chains, Chain))
        predicted, answered = predicted + found.height, answered + found["answer"].count()
        figure("answered", round(answered / max(predicted, 1), 4))  # the fraction with an answer from the list
        return found

    shards = _shards(ws, artifact)
    shards.make("predict", listings(ws.config.data.listings, ws.schema), answers, share)
    shards.finish("predictions", ws.config.data.max_bad_images, time.monotonic() - started)
    return artifact.path


def begin(ws: Workspace, adapter: str) -> Artifact:
    """Opens the artifact of a catalogue's predictions.

    Raises:
        InputError: the adapter is not finished.
    """
    made_from = MadeFrom(VERSION, trained(adapter), config=(*BASE_MODEL, "prompt", "sample", *READABLE), reads=ASKED)
    return Artifact.begin(ws, layout.CATALOGUE_PREDICTIONS, made_from)


def _shards(ws: Workspace, artifact: Artifact) -> Shards:
    return Shards(artifact, check(ws), ws.config.sample.shard_size)
