"""What of a run's workspace is shown in MLflow, and under which names: the part before the last '/' is the section of MLflow's pages."""

import json
from math import isfinite
from typing import Any

from attrloop.components.errors import fail
from attrloop.components.run.artifact import Manifest, read_manifest
from attrloop.components.run.config import RunConfig
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from attrloop.components.tracking.names import slugs

SPLITS = ("test", "validation")
_LONGEST = 250  # characters of a parameter's value: longer ones are cut, the artifact config.json has them whole
_SECTIONS = {
    "base": ("model", "prompt", "evaluate"),
    "sft": ("model", "prompt", "sft"),
    "start": ("model", "prompt"),
    "iteration": ("sample", "mine", "dpo"),
}


def read_json(ws: Workspace, path: str) -> dict[str, Any]:
    """A JSON file of the workspace; empty when it is not there."""
    return json.loads(ws.store.read(path)) if ws.store.exists(path) else {}


def scores(ws: Workspace, state: LoopState) -> dict[str, dict[str, dict[str, Any]]]:
    """The metrics.json of every stage: stage -> split -> figures; a split is there when all stages have it, so that stages can be compared.

    Raises:
        InputError: no split was evaluated for all stages.
    """
    found = {
        split: {o.stage: read_json(ws, f"evaluate/{split}/{o.stage}/metrics.json") for o in state.outcomes}
        for split in SPLITS
    }
    kept = [split for split in SPLITS if all(found[split].values())]
    if not kept:
        raise fail(
            f"{ws.store.root}/evaluate",
            "no gold split was evaluated for every stage",
            "Evaluate the stages before registering the best",
        )
    return {o.stage: {split: found[split][o.stage] for split in kept} for o in state.outcomes}


def figures(evaluated: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The metrics of one stage.

    Args:
        evaluated: split -> its metrics.json.

    Returns:
        `macro_accuracy` and `accuracy/<vertical>` of the test split where it is there, else of validation; `validation_accuracy/<vertical>`; and
        `<split>/<figure>` for everything that is one number of a split.
    """
    head = evaluated.get("test") or evaluated["validation"]
    short = slugs(head["verticals"])
    flat = {"macro_accuracy": head["macro_accuracy"]}
    flat |= {f"accuracy/{short[vertical]}": entry["accuracy"] for vertical, entry in head["verticals"].items()}
    if "validation" in evaluated:
        verticals = evaluated["validation"]["verticals"]
        flat |= {
            f"validation_accuracy/{slug}": verticals[vertical]["accuracy"]
            for vertical, slug in slugs(verticals).items()
        }
    for split, found in evaluated.items():
        flat |= {f"{split}/{key}": value for key, value in found.items() if isinstance(value, int | float)}
        low, high = found["macro_accuracy_interval"]
        flat |= {f"{split}/macro_accuracy_low": low, f"{split}/macro_accuracy_high": high}
    return _finite(flat)


def manifests(ws: Workspace, stage: str) -> dict[str, Manifest]:
    """The finished folders of a stage of the loop, by what was done: `train`, or `chains`, `pairs`, `dpo`; and `validation`, `test`."""
    folders = {
        "train": stage,
        **{part: f"{stage}/{part}" for part in ("chains", "pairs", "dpo")},
        **{split: f"evaluate/{split}/{stage}" for split in SPLITS},
    }
    found = {name: read_manifest(ws.store, folder) for name, folder in folders.items()}
    return {name: manifest for name, manifest in found.items() if manifest}


def effort(ws: Workspace, stage: str) -> dict[str, float]:
    """`effort/<work>_<count>` from the manifests of a stage: its rows, chains, pairs, and minutes."""
    flat = {}
    for work, manifest in manifests(ws, stage).items():
        for key, value in manifest.counts.items():
            if key == "seconds":
                flat[f"effort/{work}_minutes"] = value / 60
            elif work not in SPLITS:
                flat[f"effort/{work}_{key}"] = value
    return _finite(flat)


def seconds(ws: Workspace, stage: str) -> float:
    """Time spent on a stage, its evaluations included."""
    return sum(manifest.counts.get("seconds", 0.0) for manifest in manifests(ws, stage).values())


def curve(ws: Workspace, stage: str) -> list[tuple[int, dict[str, float]]]:
    """The training curve of a stage as (step, {`train/<figure>`: value}); empty where nothing was trained."""
    for path in (f"{stage}/metrics.jsonl", f"{stage}/dpo/metrics.jsonl"):
        if ws.store.exists(path):
            rows = [json.loads(line) for line in ws.store.read(path).splitlines() if line.strip()]
            return [
                (int(row["step"]), _finite({_train_name(key): row[key] for key in row if key != "step"}))
                for row in rows
                if "step" in row
            ]
    return []


def _train_name(key: str) -> str:
    return f"train/{key.removeprefix('train_').replace('/', '_')}"


def _finite(flat: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in flat.items() if isinstance(value, int | float) and isfinite(value)}


def parameters(config: RunConfig, stage: str = "") -> dict[str, str]:
    """The run config as flat parameters `<section>.<field>`; of a stage only the sections that decide it."""
    raw = config.model_dump(mode="json")
    sections = _SECTIONS.get(stage, _SECTIONS["iteration"]) if stage else raw
    flat = {}
    for section in sections:
        entries = raw[section].items() if isinstance(raw[section], dict) else [("", raw[section])]
        for field, value in entries:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{section}.{field}".rstrip(".")] = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return flat


def summary(state: LoopState, evaluated: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The loop as a Markdown table, one row a vertical and one column a stage: MLflow shows it as the parent run's description."""
    best = state.best.stage
    split = next(iter(evaluated[best]))
    heads = {stage: by_split[split] for stage, by_split in evaluated.items()}
    line = ", ".join(f"{stage} {head['macro_accuracy']:.3f}" for stage, head in heads.items() if stage != best)
    lines = [
        f"Best stage on validation: **{best}**. Macro accuracy on {split} **{heads[best]['macro_accuracy']:.3f}** ({line}).",
        "",
    ]
    lines += [
        _row("", [f"**{stage}**" if stage == best else stage for stage in heads]),
        _row("---", ["---:"] * len(heads), ""),
    ]
    for vertical in heads[best]["verticals"]:
        cells = [head["verticals"].get(vertical, {}).get("accuracy") for head in heads.values()]
        lines.append(_row(vertical, ["" if cell is None else f"{cell:.3f}" for cell in cells]))
    return "\n".join(lines)


def _row(name: str, cells: list[str], gap: str = "&emsp;") -> str:
    return (
        " | ".join([f"| {name}", *(f"{gap}{cell}" for cell in cells)]) + " |"
    )  # MLflow's page leaves no room between columns


def origin(ws: Workspace, state: LoopState, outcome: Outcome) -> Outcome | None:
    """The stage whose adapter this one was trained from; None for one that started from the base model."""
    before = [o for o in state.outcomes[: state.outcomes.index(outcome)] if o.adapter and o.adapter != outcome.adapter]
    trained = read_manifest(ws.store, outcome.adapter.removesuffix("/adapter"))
    source = trained.made_from.get("adapter", "") if trained else ""
    if not source:
        return None
    digests = {o.adapter: read_manifest(ws.store, o.adapter.removesuffix("/adapter")) for o in before}
    return next((o for o in before if (found := digests[o.adapter]) and found.digest == source), None)
