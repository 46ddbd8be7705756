"""Synthetic workspaces with chains, for tests and the benchmark of mining: skewed answers, known truth, no model."""

from pathlib import Path

import numpy as np
import polars as pl

from attrloop.components.catalogue.records import Chain, Label, polars_schema
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, ModelConfig, RunConfig
from attrloop.components.run.workspace import Workspace

STAGE = "iteration-1"
VALUES = ("amber", "beige", "coral", "denim", "not_visible")
VERTICALS = ("lamp", "mug", "rug")
ATTRIBUTES = ("finish", "shade")
VIEWS = 4


def workspace(root: Path, **mine: object) -> Workspace:
    """A workspace with these mining settings. Its schema has every vertical, attribute and value of this module."""
    root.mkdir(parents=True, exist_ok=True)
    attributes = "".join(f"      {name}: {{values: [{', '.join(VALUES)}]}}\n" for name in ATTRIBUTES)
    (root / "schema.yaml").write_text(
        "verticals:\n" + "".join(f"  {name}:\n    attributes:\n{attributes}" for name in VERTICALS)
    )
    data = DataConfig(catalogue_schema=str(root / "schema.yaml"), listings=str(root / "listings.jsonl"))
    config = RunConfig.model_validate({"data": data, "model": ModelConfig(base="none"), "mine": mine})
    return Workspace.create(str(root / "run"), config)


def finish(ws: Workspace, shards: list[pl.DataFrame], labels: list[Label]) -> None:
    """Stores chains and labels as finished artifacts."""
    artifact = Artifact(ws.store, f"{STAGE}/chains", {"chains": "synthetic"})
    names = [f"shard-{k:05d}.parquet" for k in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        shard.write_parquet(artifact.folder / name)
    artifact.finish("chains", {"chains": sum(map(len, shards))}, names)
    _finish_labels(ws, labels)


def _finish_labels(ws: Workspace, labels: list[Label]) -> None:
    artifact = Artifact(ws.store, "annotate", {"labels": "synthetic"})
    (artifact.folder / "labels.jsonl").write_text("".join(label.model_dump_json() + "\n" for label in labels))
    artifact.finish("labels", {"labels": len(labels)}, ["labels.jsonl"])


def shard(first: int, listings: int, chains: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Chains of neighbouring listings: confusable values, hard photographs, some off-list answers and abstentions.

    Args:
        first: number of the first listing; listing k is of vertical k modulo 3.
        listings: how many.
        chains: per (listing, attribute), spread over four views.
        seed: of the drawing.

    Returns:
        The chains, and the true value's index for every (listing, attribute), shape [listings, attributes].
    """
    rng = np.random.default_rng([seed, first])
    truth = rng.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=(listings, len(ATTRIBUTES)))
    skill = rng.choice([0.35, 0.6, 0.9, 1.0], size=(listings, len(ATTRIBUTES), VIEWS))  # some photographs mislead
    view = np.arange(chains) % VIEWS
    right = rng.random((listings, len(ATTRIBUTES), chains)) < skill[:, :, view]
    # Amber is predicted too often; 5 is off the list.
    wrong = rng.choice(6, p=[0.45, 0.2, 0.15, 0.05, 0.05, 0.1], size=right.shape)
    answer = np.where(right, truth[:, :, None], wrong).ravel()
    listing, attribute, number = (index.ravel() for index in np.indices(right.shape))
    listing = listing + first
    names = pl.Series([*VALUES, None])
    values = names.gather(pl.Series(answer))
    digits = pl.Series(rng.integers(0, 50, answer.size))
    said = values.fill_null("teal")
    frame = pl.DataFrame(
        {
            "listing": pl.Series(listing).cast(pl.String).str.zfill(7),
            "vertical": pl.Series(VERTICALS).gather(pl.Series(listing % len(VERTICALS))),
            "attribute": pl.Series(ATTRIBUTES).gather(pl.Series(attribute)),
            "view": view[number],
            "chain": number // VIEWS,
            "text": pl.select(
                "The surface catches the light with a sheen of grade "
                + digits.cast(pl.String)
                + ", typical of "
                + said
                + ". Answer: "
                + said
            ).to_series(),
            "answer": values,
            "logprob": -rng.random(answer.size) * 9,
            "tokens": np.full(answer.size, 18),
        },
        schema_overrides=polars_schema(Chain),
    )
    return frame, truth


def world(
    ws: Workspace, chains: int, seed: int = 0, shard_size: int = 200, labelled: int = 90
) -> dict[tuple[str, str], str]:
    """Fills a workspace with about this many chains, eight per sample, and labels for the first listings.

    The splits of the labels take turns. Test listings have chains here, though a sampler would not draw them, so that a
    test can see that mining leaves them alone.

    Returns:
        The true value of every labelled (listing, attribute).
    """
    per_sample = 8
    listings = chains // (per_sample * len(ATTRIBUTES))
    labels: list[Label] = []
    artifact = Artifact(ws.store, f"{STAGE}/chains", {"chains": f"synthetic {chains} {seed}"})
    names = []
    for k, first in enumerate(range(0, listings, shard_size)):
        frame, truth = shard(first, min(shard_size, listings - first), per_sample, seed)
        frame.write_parquet(artifact.folder / f"shard-{k:05d}.parquet")
        names.append(f"shard-{k:05d}.parquet")
        for row in range(first, min(first + len(truth), labelled)):
            split = ("train", "validation", "test")[row // len(VERTICALS) % 3]
            labels += [
                Label(
                    listing=f"{row:07d}",
                    attribute=name,
                    value=VALUES[value],
                    rationale=f"it looks {VALUES[value]}",
                    split=split,
                )
                for name, value in zip(ATTRIBUTES, truth[row - first], strict=True)
            ]
    artifact.finish("chains", {"chains": chains}, names)
    _finish_labels(ws, labels)
    return {(label.listing, label.attribute): label.value for label in labels}
