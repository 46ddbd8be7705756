"""Finished runs for tests of tracking and promotion, with real records, artifacts and safetensors.

Answers are drawn at stated accuracies.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from attrloop.components.catalogue.records import Label, Listing, Prediction
from attrloop.components.gold.learnt import (
    Role,
    learnt_by_iteration,
    learnt_by_labels,
    rows_of,
    write_learnt,
    write_record,
)
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, EvaluateConfig, ModelConfig, PromoteConfig, RunConfig
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from tests.photographs import photograph
from tests.predictions import answered, write_evaluation

VERTICALS = ("Café mug", "desk lamp", "rug")
VALUES = ("red", "green", "blue")
ACCURACY = {"base": 0.3, "sft": 0.6, "iteration-1": 0.85}


@dataclass(frozen=True)
class Run:
    """A finished workspace and its loop's state (JSON)."""

    uri: str
    ws: Workspace
    state: str


def make_run(
    folder: Path,
    name: str = "run",
    accuracy: dict[str, float] | None = None,
    seed: int = 0,
    gold: int = 15,
    **sections: Any,
) -> Run:
    """A run in `<folder>/<name>`, over a catalogue in `<folder>` that all runs there share.

    Args:
        accuracy: stage -> fraction of right answers.
        seed: of the adapters' weights and of the answers.
        gold: listings per vertical and split, with two attributes each.
        sections: of the run config.
    """
    accuracy = accuracy or ACCURACY
    _catalogue(folder, gold)
    data = DataConfig(catalogue_schema=str(folder / "schema.yaml"), listings=str(folder / "listings.jsonl"))
    fixed = {
        "model": ModelConfig(base="tiny"),
        "evaluate": EvaluateConfig(bootstrap=50),
        "promote": PromoteConfig(resamples=500),
    }
    ws = Workspace.create(str(folder / name), RunConfig(name=name, seed=seed, data=data, **{**fixed, **sections}))
    labels = _labels(ws)
    outcomes, source, before = [], "", ""
    for stage, fraction in accuracy.items():
        adapter = layout.adapter(stage)
        if adapter:
            source = train(ws, adapter.removesuffix("/adapter"), source, seed, before)
            before = adapter
        macros = {split: evaluate(ws, stage, split, labels, fraction, seed) for split in ("validation", "test")}
        outcomes.append(Outcome(stage=stage, adapter=adapter, macro=macros["validation"]))
    return Run(ws.store.root, ws, LoopState(outcomes=tuple(outcomes)).model_dump_json())


def _catalogue(folder: Path, gold: int) -> None:
    entry = {"attributes": {"colour": {"values": list(VALUES)}, "trim": {"values": list(VALUES)}}}
    (folder / "schema.yaml").write_text(yaml.safe_dump({"verticals": dict.fromkeys(VERTICALS, entry)}))
    listings = []
    for number, vertical in enumerate(VERTICALS):
        for k in range(2 * gold):
            image = f"{number}-{k}.png"
            if not (folder / image).exists():
                photograph(1000 * number + k, (64, 48)).save(folder / image)
            listings.append(Listing(id=f"{vertical}-{k}", vertical=vertical, images=(image,)))
    (folder / "listings.jsonl").write_text("".join(listing.model_dump_json() + "\n" for listing in listings))


def _labels(ws: Workspace) -> list[Label]:
    made = []
    for k, listing in enumerate(ws.listings.values()):
        for attribute in ("colour", "trim"):
            value = random.Random(f"{listing.id}{attribute}").choice(VALUES)
            made.append(
                Label(listing=listing.id, attribute=attribute, value=value, split="test" if k % 2 else "validation")
            )
    stage = Artifact(ws.store, "annotate", {})
    (stage.folder / "labels.jsonl").write_text("".join(label.model_dump_json() + "\n" for label in made))
    (stage.folder / "report.json").write_text(json.dumps({"labels": len(made)}))
    stage.finish("labels", {"labels": len(made), "seconds": 2.0}, ["labels.jsonl", "report.json"])
    return made


def train(ws: Workspace, path: str, source: str, seed: int, before: str = "") -> str:
    """Writes an adapter, with a pickle beside it as trainers do, its record and its training curve.

    Args:
        ws: the workspace.
        path: of the training.
        source: digest of the training that it starts from.
        seed: of the weights.
        before: path of the adapter that it starts from.

    Returns:
        The digest of the training.
    """
    stage = Artifact(ws.store, path, {"adapter": source} if source else {})
    folder = stage.folder / "adapter"
    folder.mkdir()
    weights = np.random.default_rng([seed, *path.encode()]).normal(size=(8, 8)).astype("float32")
    save_file({"lora_A": weights}, folder / "adapter_model.safetensors")
    (folder / "requirements.txt").write_text("torch==1.2.3\n")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "path": path}))
    (folder / "training_args.bin").write_bytes(b"\x80\x04pickle")
    rows = [{"step": k, "loss": 2.0 / k, "logps/chosen": -5.0 + 0.1 * k} for k in range(5, 55, 5)]
    (stage.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    learnt = learnt_by_iteration(ws) if path.startswith("iteration") else learnt_by_labels(ws)
    write_learnt(ws, stage.folder / "learnt.parquet", learnt, before)
    counts = {"rows": 40, "seconds": 30.0}
    return stage.finish("adapter", counts, ["adapter", "learnt.parquet", "metrics.jsonl"]).digest


def give_history(ws: Workspace, learnt: dict[Role, list[str]], unknown: tuple[str, ...] = ()) -> None:
    """Makes a run one that starts from an adapter which has learnt from these listings, as a drifting split made it."""
    folder = ws.store.folder(layout.START) / layout.ADAPTER
    files = {file.name: file.read_bytes() for file in folder.glob("*")}
    start = Artifact(ws.store, layout.START, {"origin": "models:/m/1"})
    for name, content in files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    write_record(start.folder / layout.LEARNT, [rows_of(learnt)], unknown)
    start.finish("adapter", {}, [layout.ADAPTER, layout.LEARNT] if files else [layout.LEARNT])


def answers(labels: list[Label], ws: Workspace, fraction: float | dict[str, float], seed: int) -> list[Prediction]:
    """Predictions that are right with probability `fraction`, which can be a mapping by vertical.

    The same sample is easy or hard whatever the fraction.
    """
    made = []
    for label in labels:
        vertical = ws.listings[label.listing].vertical
        chance = fraction[vertical] if isinstance(fraction, dict) else fraction
        right = random.Random(f"{label.listing}{label.attribute}{seed}").random() < chance
        answer = label.value if right else next(value for value in VALUES if value != label.value)
        made.append(answered(label, ws, answer, 0.9 if right else 0.5, f"Answer: {answer}"))
    return made


def evaluate(ws: Workspace, stage: str, split: str, labels: list[Label], fraction: float, seed: int) -> float:
    """Writes predictions and metrics of a stage; returns its macro accuracy."""
    rows = answers([label for label in labels if label.split == split], ws, fraction, seed)
    return write_evaluation(ws, stage, split, rows, resamples=50, made_from={"fraction": str(fraction)})
