"""Measures what each part of the method is worth, on the embedded world.

    python -m tests.experiments.arms --out DIR --seeds 0 1 2 --arms consensus self_training plain one_image true_labels

All arms of a seed start from the same labels, the same SFT adapter and (except for `one_image`) the same first chains.
They are compared on validation. `--test` reads the test split too: use it once, when everything has been chosen. Each
seed and arm adds a JSON line to DIR/results.jsonl.
"""

import argparse
import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from attrloop.components.annotate.annotate import annotate
from attrloop.components.dpo import train as dpo
from attrloop.components.engines.chains import sample_listings
from attrloop.components.evaluate.evaluate import evaluate
from attrloop.components.mine_pairs.mine import mine
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from attrloop.components.sample_chains.sample import sample
from attrloop.components.sft import train as sft
from attrloop.components.storage.files import write_atomic
from attrloop.pipelines.demo.demo import demo_config
from attrloop.pipelines.demo.products import Sizes, write_catalogue
from attrloop.pipelines.demo.stand_in import serving

ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "consensus": {},
    "self_training": {"mine": {"arm": "self_training"}},
    "plain": {"mine": {"arm": "plain"}},
    "one_image": {"mine": {"arm": "plain"}, "sample": {"views": "first"}},
    "one_image_consensus": {"sample": {"views": "first"}},
    "true_labels": {"mine": {"arm": "true_labels"}},
    "no_calibration": {"mine": {"calibrate": False}},
    "no_balance": {"mine": {"balance": 0.0}},
    "no_anchors": {"mine": {"anchors": False}},
    "no_labelled": {"mine": {"labelled": False}},
    **{f"unlabelled_{count}": {"sample": {"max_listings": count}} for count in (160, 320)},
}
_SHARED = (
    "annotate",
    "sft",
    "evaluate/validation/base",
    "evaluate/validation/sft",
    "evaluate/test/base",
    "evaluate/test/sft",
    "iteration-1/chains",
)


def with_changes(config: RunConfig, changes: dict[str, dict[str, Any]]) -> RunConfig:
    """The config with some fields of some sections replaced, checked as a whole."""
    raw = config.model_dump(mode="json")
    for section, values in changes.items():
        raw[section] = {**raw[section], **values}
    return RunConfig.model_validate(raw)


def parse_changes(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Nested changes from texts like `section.field=value`, with the value in JSON."""
    changes: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, value = text.split("=", 1)
        section, field = name.split(".")
        changes.setdefault(section, {})[field] = json.loads(value)
    return changes


def seed_run(
    out: Path, seed: int, sizes: Sizes, changes: dict[str, dict[str, Any]], test: bool
) -> tuple[Path, RunConfig]:
    """What the arms of a seed have in common: labels, the SFT adapter and the first chains."""
    catalogue = out / f"catalogue-{seed}"
    write_catalogue(catalogue, seed, sizes)
    with serving(catalogue) as url:
        config = with_changes(demo_config(catalogue, url), changes).model_copy(update={"seed": seed})
        os.environ.setdefault(config.annotate.key_env, "demo")
        workspace = out / f"seed-{seed}"
        Workspace.create(str(workspace), config)
        annotate(str(workspace))
    adapter = sft.train(str(workspace))
    for split in ("validation", "test") if test else ("validation",):
        evaluate(str(workspace), {"base": "", "sft": adapter}, split)
    sample(str(workspace), "iteration-1", adapter)
    return workspace, config


def majority_voting(shared: Path, split: str) -> dict[str, float]:
    """Macro accuracy of the SFT model's majority answer, in per cent, over chains of the first and of each image."""
    ws = Workspace.open(str(shared))
    gold = {(label.listing, label.attribute): label.value for label in ws.labels(split)}
    listings = [ws.listings[name] for name in dict.fromkeys(listing for listing, _ in gold)]
    result = {}
    for views in ("first", "each"):
        ws.config = with_changes(ws.config, {"sample": {"views": views}})
        votes: dict[tuple[str, str], Counter[str]] = {}
        for chain in sample_listings(ws, Vlm.open(ws, sft.ADAPTER), listings, "majority"):
            if chain.answer is not None:
                votes.setdefault((chain.listing, chain.attribute), Counter())[chain.answer] += 1
        right: dict[str, list[bool]] = {}
        for (listing, attribute), value in gold.items():
            counted = votes.get((listing, attribute), Counter({"": 1}))
            right.setdefault(ws.listings[listing].vertical, []).append(counted.most_common(1)[0][0] == value)
        result[views] = round(100 * sum(sum(r) / len(r) for r in right.values()) / len(right), 1)
    return result


def run_arm(
    shared: Path,
    config: RunConfig,
    name: str,
    *,
    label: str,
    changes: dict[str, dict[str, Any]],
    iterations: int,
    test: bool,
) -> dict[str, Any]:
    """Runs the iterations of an arm in a workspace of its own, and returns its line of the results."""
    started = time.monotonic()
    workspace = shared.parent / f"{shared.name}-{label}"
    config = with_changes(with_changes(config, ARMS[name]), changes)
    if config.mine.arm == "true_labels":
        truth = Path(config.data.listings).parent / "truth.jsonl"
        config = with_changes(config, {"mine": {"truth": str(truth)}})
    Workspace.create(str(workspace), config)
    for path in _SHARED:
        if (shared / path).is_dir() and not (workspace / path).exists():
            shutil.copytree(shared / path, workspace / path)
    (workspace / "cache").mkdir(exist_ok=True)
    if not (workspace / "cache" / "features.sqlite").exists():
        os.link(shared / "cache" / "features.sqlite", workspace / "cache" / "features.sqlite")
    stages, rows = {"base": "", "sft": sft.ADAPTER}, {}
    for k in range(1, iterations + 1):
        stage, previous = f"iteration-{k}", list(stages.values())[-1]
        sample(str(workspace), stage, previous)
        mine(str(workspace), stage)
        stages[stage] = dpo.train(str(workspace), stage, previous)
        evaluate(str(workspace), {stage: stages[stage]}, "validation")
        report = json.loads((workspace / stage / "pairs" / "report.json").read_text())
        rows[stage] = report.get("rows", report.get("counts"))
    result = {"seed": config.seed, "arm": label, "rows": rows, "seconds": round(time.monotonic() - started)}
    for split in ("validation", "test") if test else ("validation",):
        evaluate(str(workspace), stages, split)
        metrics = {
            stage: json.loads((workspace / "evaluate" / split / stage / "metrics.json").read_text()) for stage in stages
        }
        result[split] = {stage: round(100 * value["macro_accuracy"], 1) for stage, value in metrics.items()}
        result[f"{split}_verticals"] = {
            stage: {v: round(100 * x["accuracy"], 1) for v, x in value["verticals"].items()}
            for stage, value in metrics.items()
        }
    return result


def add(results: Path, row: dict[str, Any]) -> None:
    """Appends a line to the results."""
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=["consensus"], choices=list(ARMS))
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument(
        "--listings",
        type=int,
        default=Sizes().unlabelled,
        help="listings without gold labels: 30 %% are kept for gold, and the annotator labels 120",
    )
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--label", default="", help="added to the arms' names when changes are tried")
    parser.add_argument(
        "--seed-change",
        nargs="*",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="changes of what the arms have in common",
    )
    parser.add_argument("--change", nargs="*", default=[], metavar="SECTION.FIELD=VALUE", help="changes of the arms")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "results.jsonl"
    for seed in arguments.seeds:
        shared, config = seed_run(
            arguments.out.absolute(),
            seed,
            Sizes(unlabelled=arguments.listings),
            parse_changes(arguments.seed_change),
            arguments.test,
        )
        if arguments.test and not (shared / "majority_voting.json").exists():
            voting = {"seed": seed, "arm": "majority_voting", "test": majority_voting(shared, "test")}
            write_atomic(shared / "majority_voting.json", json.dumps(voting).encode())
            add(results, voting)
        for name in arguments.arms:
            label = name + (f"-{arguments.label}" if arguments.label else "")
            result = run_arm(
                shared,
                config,
                name,
                label=label,
                changes=parse_changes(arguments.change),
                iterations=arguments.iterations,
                test=arguments.test,
            )
            add(results, result)
            print({key: value for key, value in result.items() if not key.endswith("_verticals")}, flush=True)


if __name__ == "__main__":
    main()
