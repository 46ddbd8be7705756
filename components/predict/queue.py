"""The review queue: the predictions a person should look at first, and a summary of them all."""

import json
import time
from pathlib import Path
from typing import Any

import polars as pl

from attrloop.components.catalogue.records import polars_schema
from attrloop.components.digests import digest
from attrloop.components.predict.labelling import Project, projects, write_projects
from attrloop.components.predict.stream import listings
from attrloop.components.predict.votes import CataloguePrediction, QueuedPrediction
from attrloop.components.results.kubeflow import MetricsSink
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.shards import finished_shards
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.parquet import read_parquet, write_parquet

VERSION = 2  # of what is chosen and how it is shown
_TASK = ["vertical", "attribute"]


@reports("review-queue")
def review(workspace: str, per_attribute: int = 20, image_root: str = "", metrics: MetricsSink | None = None) -> str:
    """Writes the least confident predictions of every (vertical, attribute) as Label Studio projects, and a summary.

    Args:
        workspace: URI of a workspace with finished predictions; writes `review/queue.parquet` (rows of
            `CataloguePrediction`), `review/summary.json` and the projects.
        per_attribute: predictions to review of each (vertical, attribute); 0 for none.
        image_root: see `labelling.projects`.
        metrics: gets the summary of all verticals.

    Returns:
        The queue's folder in the workspace.

    Raises:
        InputError: predictions that are not finished.
    """
    started, ws = time.monotonic(), Workspace.open(workspace)
    artifact = begin(ws, per_attribute, image_root)
    if artifact.manifest is None:
        write_atomic(artifact.folder / layout.SUMMARY, json.dumps(summary(ws), indent=1).encode())
        queue = select(ws, per_attribute)
        write_parquet(queue, artifact.folder / layout.QUEUE)
        files = export(ws, queue, artifact.folder, image_root)
        counts = {"items": queue.height, "seconds": time.monotonic() - started}
        artifact.finish("review", counts, [layout.SUMMARY, layout.QUEUE, *files])
    else:
        reused(artifact.path)
    if metrics is not None:
        for name, value in json.loads(ws.store.read(layout.REVIEW_SUMMARY))["all"].items():
            metrics.log_metric(name, float(value))
    return artifact.path


def begin(ws: Workspace, per_attribute: int, image_root: str) -> Artifact:
    """Opens the artifact of the review queue.

    Raises:
        InputError: the predictions are not finished.
    """
    made_from = MadeFrom(
        VERSION,
        {"predictions": layout.CATALOGUE_PREDICTIONS},
        reads=("catalogue", "photographs", "values"),
        extra={"per_attribute": str(per_attribute), "images": digest(image_root), "model": _model(ws)},
    )
    return Artifact.begin(ws, layout.REVIEW, made_from)


def select(ws: Workspace, per_attribute: int) -> pl.DataFrame:
    """The `per_attribute` least confident predictions of every (vertical, attribute), least confident first.

    Shards are read one at a time, so that few predictions are in memory.

    Raises:
        InputError: predictions that are not finished.
    """
    kept = pl.DataFrame(schema=polars_schema(CataloguePrediction))
    for shard in finished_shards(ws.store, layout.CATALOGUE_PREDICTIONS):
        rows = pl.concat([kept, read_parquet(shard)]).sort(*_TASK, "confidence", "listing")
        kept = rows.filter(pl.int_range(pl.len()).over(_TASK) < per_attribute)
    return kept


def summary(ws: Workspace) -> dict[str, Any]:
    """Counts, mean confidence, and the fractions of unanimous and of off-list predictions: `all`, and by attribute."""
    listed = pl.col("answer").is_not_null()
    sums = [
        pl.len().alias("predictions"),
        pl.col("confidence").sum(),
        (pl.col("confidence") >= 1).sum().alias("unanimous"),
        (~listed).sum().alias("off_list"),
    ]
    found = (
        pl.concat(
            [
                read_parquet(shard).group_by(_TASK).agg(sums)
                for shard in finished_shards(ws.store, layout.CATALOGUE_PREDICTIONS)
            ]
        )
        .group_by(_TASK)
        .agg(pl.all().sum())
        .sort(_TASK)
    )

    def means(row: dict[str, Any]) -> dict[str, float]:
        count = max(row["predictions"], 1)
        fractions = {
            name: round(row[key] / count, 4)
            for name, key in (("confidence", "confidence"), ("unanimous", "unanimous"), ("off_list", "off_list"))
        }
        return {"predictions": row["predictions"], **fractions}

    return {
        "all": means(
            found.select(pl.col("predictions", "confidence", "unanimous", "off_list").sum()).row(0, named=True)
        ),
        "attributes": {f"{row['vertical']}/{row['attribute']}": means(row) for row in found.iter_rows(named=True)},
    }


def export(ws: Workspace, queue: pl.DataFrame, folder: Path, image_root: str = "") -> list[str]:
    """Writes a queue as Label Studio projects below a local folder; returns their names."""
    made = projects_of(ws, queue, image_root)
    write_projects(made, folder)
    return list(made)


def projects_of(ws: Workspace, queue: pl.DataFrame, image_root: str = "") -> dict[str, Project]:
    """A queue as Label Studio projects, by name; see `labelling.projects`."""
    wanted = set(queue["listing"])
    found = (
        {listing.id: listing for listing in listings(ws.config.data.listings, ws.schema) if listing.id in wanted}
        if wanted
        else {}
    )
    rows = (QueuedPrediction.model_validate(row) for row in queue.iter_rows(named=True))
    return projects(ws, ((found[row.listing], row) for row in rows), image_root, _model(ws))


def _model(ws: Workspace) -> str:
    """The model that predicted, by run and stage (`shoes-1a2b3c4d/iteration-2`), or by its version in the registry."""
    start = read_manifest(ws.store, layout.START)
    if start is None:
        return "base"
    origin = start.made_from["origin"]
    path = layout.trained_by(origin.removeprefix("models:/")).removesuffix("/dpo")
    return "/".join(path.split("/")[-2:])
