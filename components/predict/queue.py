"""The review queue: the predictions a person should look at first, and a summary of them all."""

import json
import time
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Label, Split, polars_schema
from attrloop.components.digests import digest
from attrloop.components.gold.decide import Splits
from attrloop.components.gold.presumed import known_splits, presumed, splits_among
from attrloop.components.gold.split import TEST, VALIDATION
from attrloop.components.gold.stated import stated_splits
from attrloop.components.predict.labelling import Project, projects, write_projects
from attrloop.components.predict.stream import listings
from attrloop.components.predict.votes import CataloguePrediction, QueuedPrediction
from attrloop.components.results.kubeflow import MetricsSink
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import intact, read_manifest
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.shards import finished_shards
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.parquet import read_parquet, write_parquet

VERSION = 5  # of what is chosen and how it is shown
_TASK, _ITEM = ["vertical", "attribute"], ["listing", "attribute"]
_AT_ONCE = 50  # shards
_SPARE = 2  # as many listings are looked at as are needed: some share photographs and turn out to be of another split
_FEW = 10  # more gold listings are expected among the candidates: so many that there are hardly ever too few


@reports("review-queue")
def review(workspace: str, per_attribute: int = 20, image_root: str = "", metrics: MetricsSink | None = None) -> str:
    """Writes what people are asked about as Label Studio projects, and a summary of all predictions.

    Args:
        workspace: URI of a workspace with finished predictions; writes `review/queue.parquet` (rows of
            `QueuedPrediction`), `review/summary.json` and the projects.
        per_attribute: uncertain predictions of each (vertical, attribute), see `select`; 0 for none at all.
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
        for name, value in json.loads(intact(ws.store, layout.REVIEW_SUMMARY).read_bytes())["all"].items():
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
        extra={
            "per_attribute": str(per_attribute),
            "drawn": str(ws.config.review.drawn),
            "images": digest(image_root),
            "model": _model(ws),
        },
    )
    return Artifact.begin(ws, layout.REVIEW, made_from)


def select(ws: Workspace, per_attribute: int) -> pl.DataFrame:
    """What people are asked about, rows of `QueuedPrediction`: first what is uncertain, then what is drawn for gold.

    - `uncertain`: the `per_attribute` least confident predictions of every (vertical, attribute) among the listings of
      split train, least confident first. They may be trained on, and are no fair sample.
    - `drawn`: all attributes of listings of the gold splits, in the order in which gold is taken (`gold.split.rank`)
      and however certain they are, so that gold stays a fair sample. They are the fraction `review.drawn` of the
      queue's listings of a vertical, at least one unless that is 0. The candidates are all listings that no run has in
      split train, by rank whatever their ids would draw: a listing that shares photographs is as likely to be gold as
      any other.

    What the config's labels file answers already is left out. A label of an earlier review is no gold, so its listing
    can still be drawn. Shards are read a few at a time, so that few predictions are in memory, and only photographs of
    listings that may be asked about are looked at: memory grows with the register of splits, not with the catalogue.

    Raises:
        InputError: predictions that are not finished, or labels of a listing that name different splits.
        AttrloopError: the register of splits cannot be used.
    """
    labels = [label for _, label in read_rows(ws.config.data.labels, Label)] if ws.config.data.labels else []
    stated = stated_splits(labels, ws.config.data.labels)
    known = known_splits(ws, stated)
    learnt = known.filter(pl.col("split") == "train")
    answered, ratio = _answered(labels), ws.config.review.drawn / (1 - ws.config.review.drawn)
    needed = {name: ceil(ratio * per_attribute * len(entry.attributes)) for name, entry in ws.schema.verticals.items()}
    most = {name: count and ceil((_SPARE * count + _FEW) / (VALIDATION + TEST)) for name, count in needed.items()}
    bounds = pl.DataFrame({"vertical": list(most), "most": list(most.values())})
    uncertain = drawn = pl.DataFrame(schema={**polars_schema(CataloguePrediction), "rank": pl.Float64})
    shards = finished_shards(ws.store, layout.CATALOGUE_PREDICTIONS)
    for first in range(0, len(shards), _AT_ONCE):
        found = read_parquet(shards[first : first + _AT_ONCE])
        found = found.join(presumed(found["listing"].unique(), known), on="listing")
        train = found.filter(pl.col("split") == "train").join(answered, on=_ITEM, how="anti")
        uncertain = pl.concat([uncertain, train.select(uncertain.columns)]).sort(*_TASK, "confidence", "listing")
        uncertain = uncertain.filter(pl.int_range(pl.len()).over(_TASK) < _SPARE * per_attribute)
        fair = found.join(learnt, on="listing", how="anti").join(answered.filter("fair"), on=_ITEM, how="anti")
        drawn = _first(pl.concat([drawn, fair.select(drawn.columns)]), bounds)
    splits = _decided(ws, {*uncertain["listing"], *drawn["listing"]}, stated)
    uncertain = uncertain.filter(pl.col("listing").is_in([key for key, split in splits.of.items() if split == "train"]))
    uncertain = uncertain.filter(pl.int_range(pl.len()).over(_TASK) < per_attribute)
    gold = [key for key, split in splits.of.items() if split != "train" and key not in splits.mixed]
    drawn = drawn.filter(pl.col("listing").is_in(gold))
    asked = uncertain.group_by("vertical").agg(most=pl.col("listing").n_unique())
    wanted = asked.with_columns(most=(pl.col("most") * ratio - 1e-9).ceil().cast(pl.Int64))
    parts = {"uncertain": uncertain, "drawn": _first(drawn, wanted)}
    rows = pl.concat(frame.with_columns(part=pl.lit(part)) for part, frame in parts.items())
    return rows.select(list(polars_schema(QueuedPrediction)))


def _decided(ws: Workspace, wanted: set[str], stated: dict[str, Split]) -> Splits:
    """The splits of the listings that may be asked about; those that share photographs may have another than presumed.

    They are remembered, so that what people answer is learnt from, or is gold, in every later run.
    """
    rows = listings(ws.config.data.listings, ws.schema) if wanted else iter(())
    return splits_among(ws, (row for row in rows if row.id in wanted), stated)


def _first(rows: pl.DataFrame, most: pl.DataFrame) -> pl.DataFrame:
    """The rows of the first listings of each vertical by rank, as many listings as `most` says."""
    place = pl.struct("rank", "listing").rank("dense").over("vertical")
    kept = rows.join(most, on="vertical").filter(place <= pl.col("most")).drop("most")
    return kept.sort("vertical", "rank", "listing", "attribute")


def _answered(labels: list[Label]) -> pl.DataFrame:
    """The (listing, attribute) that have a label, and whether the label can be gold."""
    rows = [(label.listing, label.attribute, label.source != "review") for label in labels]
    return pl.DataFrame(rows, schema={"listing": pl.String, "attribute": pl.String, "fair": pl.Boolean}, orient="row")


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
    """Writes a queue as Label Studio projects below a local folder; returns their names.

    Raises:
        InputError: the folder cannot be written.
    """
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
    """The model that predicted, by run and stage (`shoes-1a2b3c4d/iteration-2`)."""
    start = read_manifest(ws.store, layout.START)
    if start is None:
        return "base"
    # An earlier version of attrloop left out run and stage: then they are in the adapter's path.
    named = start.made_from.get("trained_as", start.made_from["origin"])
    return "/".join(layout.stage_of(named).split("/")[-2:])
