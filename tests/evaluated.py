"""A run of small drawn listings with random predictions, written by the records and artifacts that a real run uses."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image, ImageDraw

from attrloop.components.catalogue.records import Chain, Label, Listing, Prediction, to_frame
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, EvaluateConfig, ModelConfig, RunConfig
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from tests.predictions import answered, write_evaluation

COLOURS = {"red": "#d33", "green": "#2a4", "blue": "#36c", "yellow": "#ec3"}
SHAPES = ["round", "square", "tall"]
NAMES = ["mug", "lamp", "chair", "shirt", "vase", "bag", "clock", "bowl", "rug", "shoe", "hat", "box"]
STAGES = {"base": 0.35, "sft": 0.6, "iteration-1": 0.68, "iteration-2": 0.74}  # how often a stage is right


@dataclass(frozen=True)
class Run:
    """A workspace and what is in it."""

    uri: str
    ws: Workspace
    state: LoopState


def draw(path: Path, shape: str, colour: str) -> None:
    image = Image.new("RGB", (64, 64), "white")
    box = {"round": (12, 12, 52, 52), "square": (14, 14, 50, 50), "tall": (24, 6, 40, 58)}[shape]
    (ImageDraw.Draw(image).ellipse if shape == "round" else ImageDraw.Draw(image).rectangle)(box, fill=COLOURS[colour])
    image.save(path)


def catalogue(folder: Path, verticals: int, per_vertical: int) -> tuple[list[Listing], dict[tuple[str, str], str]]:
    """Writes schema, images and listings; returns the listings and the truth by (listing, attribute)."""
    rng = random.Random(0)
    entry = {"attributes": {"colour": {"values": [*COLOURS, "not_visible"]}, "shape": {"values": SHAPES}}}
    (folder / "schema.yaml").write_text(yaml.safe_dump({"verticals": dict.fromkeys(NAMES[:verticals], entry)}))
    (folder / "images").mkdir()
    listings, truth = [], {}
    for vertical in NAMES[:verticals]:
        for k in range(per_vertical):
            shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
            images = tuple(f"images/{vertical}-{k}-{view}.png" for view in range(2))
            for image in images:
                draw(folder / image, shape, colour)
            listing = Listing(id=f"{vertical}-{k}", vertical=vertical, images=images)
            listings.append(listing)
            truth |= {(listing.id, "colour"): colour, (listing.id, "shape"): shape}
    (folder / "listings.jsonl").write_text("".join(listing.model_dump_json() + "\n" for listing in listings))
    return listings, truth


def labels(ws: Workspace, listings: list[Listing], truth: dict[tuple[str, str], str], gold: int) -> list[Label]:
    """Labels the first listings of a vertical: two for training, then `gold` each for validation and test."""
    made = []
    for listing in listings:
        k = int(listing.id.rsplit("-", 1)[1])
        split = "train" if k < 2 else "validation" if k < 2 + gold else "test" if k < 2 + 2 * gold else None
        for attribute in ("colour", "shape") if split else ():
            made.append(
                Label(
                    listing=listing.id,
                    attribute=attribute,
                    value=truth[listing.id, attribute],
                    rationale="I see it.",
                    split=split,
                )
            )
    stage = Artifact(ws.store, "annotate", {})
    (stage.folder / "labels.jsonl").write_text("".join(label.model_dump_json() + "\n" for label in made))
    stage.finish("labels", {"labels": len(made), "seconds": 3.0}, ["labels.jsonl"])
    return made


def predictions(stage: str, ask: list[Label], ws: Workspace) -> list[Prediction]:
    made = []
    for label in ask:
        vertical = ws.listings[label.listing].vertical
        chance = STAGES[stage] + 0.2 * (random.Random(vertical).random() - 0.5)
        rng = random.Random(
            f"{label.listing}{label.attribute}"
        )  # the same for every stage: stages differ in few answers
        right = (rng.random() < chance) ^ (random.Random(f"{stage}{label.listing}{label.attribute}").random() < 0.04)
        others = [name for name in ws.schema.attribute(vertical, label.attribute).names if name != label.value]
        answer = label.value if right else None if rng.random() < 0.06 else rng.choice(others)
        confidence = min(1.0, max(0.05, (0.75 if right else 0.5) + 0.25 * (rng.random() - 0.4)))
        text = f"I see a {answer or 'thing'} {vertical} in the photograph. Answer: {answer or 'purple'}"
        made.append(answered(label, ws, answer, confidence, text))
    return made


def evaluation(ws: Workspace, stage: str, split: str, ask: list[Label]) -> float:
    return write_evaluation(ws, stage, split, predictions(stage, ask, ws), resamples=200, made_from={})


def iteration(ws: Workspace, stage: str, truth: dict[tuple[str, str], str]) -> None:
    """Chains with a majority that is mostly right, the pairs mined from them, and DPO's metrics."""
    rng = random.Random(stage)
    chains = []
    for listing in ws.listings.values():
        for attribute in ("colour", "shape"):
            names = ws.schema.attribute(listing.vertical, attribute).names
            hard = rng.random()
            for k in range(8):
                answer = truth[listing.id, attribute] if rng.random() > hard * 0.8 else rng.choice(names)
                text = f"Look {k}, I see it. Answer: {answer}"
                row = {
                    "listing": listing.id,
                    "vertical": listing.vertical,
                    "attribute": attribute,
                    "view": k % 2,
                    "chain": k // 2,
                }
                chains.append(Chain(**row, text=text, answer=answer, logprob=-3.0, tokens=8))
    folder = Artifact(ws.store, f"{stage}/chains", {})
    to_frame(chains, Chain).write_parquet(folder.folder / "shard-00000.parquet")
    folder.finish("chains", {"chains": len(chains), "seconds": 30.0}, ["shard-00000.parquet"])
    mine(ws.store.root, stage)
    dpo = Artifact(ws.store, f"{stage}/dpo", {})
    rows = [
        {
            "step": k,
            "loss": 1 / k,
            "logps/chosen_change": 0.02 * k + rng.random(),
            "logps/rejected_change": -0.05 * k + rng.random(),
        }
        for k in range(1, 101)
    ]
    (dpo.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dpo.finish("adapter", {"seconds": 20.0}, ["metrics.jsonl"])


def build(folder: Path, verticals: int = 3, per_vertical: int = 30, gold: int = 8, examples: int = 12) -> Run:
    """A finished run of base, SFT and two iterations."""
    listings, truth = catalogue(folder, verticals, per_vertical)
    config = RunConfig(
        seed=7,
        data=DataConfig(catalogue_schema=str(folder / "schema.yaml"), listings=str(folder / "listings.jsonl")),
        model=ModelConfig(base="tiny"),
        evaluate=EvaluateConfig(bootstrap=200, report_examples=examples),
    )
    ws = Workspace.create(str(folder / "run"), config)
    made = labels(ws, listings, truth, gold)
    sft = Artifact(ws.store, "sft", {})
    (sft.folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": k, "loss": 2 / k}) + "\n" for k in range(1, 50))
    )
    sft.finish("adapter", {"seconds": 24.0}, ["metrics.jsonl"])
    for stage in ("iteration-1", "iteration-2"):
        iteration(ws, stage, truth)
    scores = {
        stage: [evaluation(ws, stage, split, [x for x in made if x.split == split]) for split in ("validation", "test")]
        for stage in STAGES
    }
    adapters = {"base": "", "sft": "sft/adapter"}
    state = LoopState(
        outcomes=tuple(
            Outcome(stage=s, adapter=adapters.get(s, f"{s}/dpo/adapter"), macro=scores[s][0]) for s in STAGES
        )
    )
    return Run(ws.store.root, ws, state)


def with_adapter(folder: Path, base: Path, batch_size: int) -> Workspace:
    """Labels of two verticals, four gold samples each on either split, and an adapter `sft` of a real model."""
    listings, truth = catalogue(folder, 2, 6)
    config = RunConfig(
        data=DataConfig(catalogue_schema=str(folder / "schema.yaml"), listings=str(folder / "listings.jsonl")),
        model=ModelConfig(base=str(base), max_pixels=64 * 64),
        evaluate=EvaluateConfig(batch_size=batch_size, max_new_tokens=5, bootstrap=50),
    )
    ws = Workspace.create(str(folder / "run"), config)
    labels(ws, listings, truth, 2)
    from attrloop.components.model.vlm import Vlm  # torch

    vlm = Vlm.open(ws)
    vlm.add_adapter(0)
    artifact = Artifact(ws.store, "sft", {})
    vlm.model.save_pretrained(artifact.folder / "adapter")
    artifact.finish("adapter", {"seconds": 1.0}, ["adapter"])
    return ws
