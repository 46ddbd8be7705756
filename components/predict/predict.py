"""Answers every attribute of every listing of a catalogue: several chains over a listing's views, and their vote, in resumable shards."""

import time

import polars as pl

from attrloop.components.catalogue.records import Chain, Listing, to_frame
from attrloop.components.engines.engine import Engine
from attrloop.components.engines.registry import open_engine
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.predict.catalogue import check
from attrloop.components.predict.catalogue import shards as read_shards
from attrloop.components.predict.votes import decide
from attrloop.components.run.artifact import Artifact, read_manifest
from attrloop.components.run.progress import progress
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.shards import divide, parse_share
from attrloop.components.run.workspace import Workspace
from attrloop.components.sample_chains.sample import readable, sample_listings

PREDICTIONS = "predictions"


def share_out(workspace: str, adapter: str, workers: int) -> list[str]:
    """Begins the prediction, so that of several workers none finds what was made from other inputs, and divides it.

    Returns:
        Each worker's share (see `predict`), of which none is empty.
    """
    ws = Workspace.open(workspace)
    _begin(ws, adapter)
    return divide(min(workers, len(_names(ws))))


@reports("predict")
def predict(workspace: str, adapter: str, share: str = "1/1") -> str:
    """Predicts the catalogue, or this worker's share of it; finished shards are kept, and whoever finishes the last one finishes the stage.

    Args:
        workspace: URI of the workspace; writes `predictions/part-<n>.parquet` of `votes.CataloguePrediction` rows, in the catalogue's order.
        adapter: path of the adapter in the workspace; "" for the base model.
        share: `k/n`: every n-th shard from the k-th on, for n workers that share the catalogue.

    Returns:
        The predictions' folder in the workspace.

    Raises:
        InputError: bad listings, found before anything is predicted.
        AttrloopError: more listings with unreadable images than `data.max_bad_images`.
    """
    ws, (mine, workers) = Workspace.open(workspace), parse_share(share)
    stage = _begin(ws, adapter)
    if stage.manifest is not None:
        reused(stage.path)
        return stage.path
    started, names = time.monotonic(), _names(ws)
    engine: Engine | None = None  # not needed where everything is reused
    with progress("predict", len(names[mine::workers]), "shards") as bar:
        for number, (name, shard) in enumerate(zip(names, read_shards(ws), strict=False)):
            if number % workers != mine:
                continue
            if not (stage.folder / name).exists():
                engine = engine or open_engine(ws, adapter, keep_images=False)
                _write(ws, engine, shard, stage, name)
            bar.advance()
    if {f"{stage.path}/{name}" for name in names} <= set(ws.store.list(stage.path)):
        _finish(ws, stage, names, time.monotonic() - started)
    return stage.path


def _begin(ws: Workspace, adapter: str) -> Artifact:
    source = read_manifest(ws.store, adapter.removesuffix("/adapter")) if adapter else None
    if adapter and source is None:
        raise fail(f"{ws.store.root}/{adapter}", "this adapter is not finished", "Fetch it before predicting with it")
    made_from = {
        "adapter": source.digest if source else "",
        "config": ws.config.digest("model", "prompt", "sample"),
        "data": ws.data_digest,
    }
    return Artifact(ws.store, PREDICTIONS, made_from)


def _names(ws: Workspace) -> list[str]:
    """The file of every shard, in order."""
    return [f"part-{number:05d}.parquet" for number in range(-(-check(ws) // ws.config.sample.shard_size))]


def _write(ws: Workspace, engine: Engine, shard: list[Listing], stage: Artifact, name: str) -> None:
    chains = to_frame(sample_listings(ws, engine, readable(engine, shard), PREDICTIONS), Chain)
    temporary = stage.folder / f".tmp-{name}"
    decide(chains).write_parquet(temporary)
    temporary.rename(stage.folder / name)
    stage.keep(name)
    engine.forget()
    ws.images.forget(
        image for listing in shard for image in listing.images
    )  # none is seen again: neither memory nor disk grows with the catalogue


def _finish(ws: Workspace, stage: Artifact, names: list[str], seconds: float) -> None:
    listings = check(ws)
    folder = ws.store.folder(stage.path)  # with what other workers have written
    sizes = [
        pl.scan_parquet(folder / name).select(pl.len(), pl.col("listing").n_unique()).collect().row(0) for name in names
    ]
    rows, predicted = (sum(column) for column in zip(*sizes, strict=True))
    skipped, bound = listings - predicted, ws.config.data.max_bad_images
    if skipped > bound * listings:
        raise AttrloopError(
            f"{skipped} of {listings} listings have images that cannot be read (see the log). Mend them or raise data.max_bad_images."
        )
    stage.finish(
        "predictions",
        {"listings": predicted, "skipped": skipped, "predictions": rows, "shards": len(names), "seconds": seconds},
        names,
    )
