"""What MLflow shows of a run, and under which names. The part before the last '/' is a section of MLflow's pages."""

import json
import re
from math import isfinite
from typing import Any

from attrloop.components.catalogue.records import GOLD_SPLITS
from attrloop.components.results.evaluation import METRICS, Evaluation
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.config import RunConfig
from attrloop.components.tracking.names import slugs

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#+!|~&$:]")  # what Markdown or HTML may take for something else
_LONGEST = 250  # characters of a parameter's value; longer ones are cut, and whole in the artifact config.json
_LONGEST_TAG = 1000  # characters
_SECTIONS = {  # of the config that decide a stage
    "base": ("model", "prompt", "evaluate"),
    layout.SFT: ("model", "prompt", "sft"),
    layout.START: ("model", "prompt"),
    "iteration": ("sample", "mine", "dpo"),
}


def metrics(results: Results, stage: str) -> dict[str, float]:
    """The metrics of a stage.

    Returns:
        `macro_accuracy` and `accuracy/<vertical>` on the split of the headlines; `validation_accuracy/<vertical>`; and
        `<split>/<metric>` for every metric of a split; `<split>/left_out`, gold listings that are left out, if any are.
    """
    head = results.shown[stage]
    flat = {"macro_accuracy": head.macro_accuracy, **_accuracies("accuracy", head)}
    for split in results.splits:
        found = results.evaluations[split][stage]
        flat |= {f"{split}/{name}": value for name in METRICS if (value := found.number(name)) is not None}
        low, high = found.macro_accuracy_interval
        flat |= {
            f"{split}/count": found.count,
            f"{split}/macro_accuracy_low": low,
            f"{split}/macro_accuracy_high": high,
        }
        if omission := results.omissions.get(split):
            flat[f"{split}/left_out"] = omission.listings
        if split == "validation":
            flat |= _accuracies("validation_accuracy", found)
    return flat


def _accuracies(section: str, evaluation: Evaluation) -> dict[str, float]:
    short = slugs(evaluation.verticals)
    return {f"{section}/{short[name]}": accuracy for name, accuracy in evaluation.accuracies.items()}


def lineage(results: Results) -> dict[str, str]:
    """Tags on an adapter's history: gold that is left out for it, by split, and ancestors whose history is unknown."""
    tags = {f"left_out.{split}": found.text[:_LONGEST_TAG] for split, found in results.omissions.items()}
    return tags | ({"unknown_history": ", ".join(results.unknown)} if results.unknown else {})


def effort(results: Results, stage: str) -> dict[str, float]:
    """`effort/<work>_<count>` of a stage: its rows, chains, pairs, and minutes."""
    flat = {}
    for work, manifest in results.manifests(stage).items():
        for key, value in manifest.counts.items():
            if key == "seconds":
                flat[f"effort/{work}_minutes"] = value / 60
            elif work not in GOLD_SPLITS:
                flat[f"effort/{work}_{key}"] = value
    return _finite(flat)


def curve(results: Results, stage: str) -> list[tuple[int, dict[str, float]]]:
    """The training curve of a stage as (step, {`train/<name>`: value}); empty where nothing was trained."""
    return [
        (int(row["step"]), _finite({_train_name(key): row[key] for key in row if key != "step"}))
        for row in results.curve(stage)
    ]


def _train_name(key: str) -> str:
    return f"train/{key.removeprefix('train_').replace('/', '_')}"


def _finite(flat: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in flat.items() if isinstance(value, int | float) and isfinite(value)}


def parameters(config: RunConfig, stage: str = "") -> dict[str, str]:
    """The run config as flat parameters `<section>.<field>`; for a stage only the sections that decide it."""
    raw = config.model_dump(mode="json")
    sections = _SECTIONS.get(stage, _SECTIONS["iteration"]) if stage else raw
    flat = {}
    for section in sections:
        entries = raw[section].items() if isinstance(raw[section], dict) else [("", raw[section])]
        for field, value in entries:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{section}.{field}".rstrip(".")] = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return flat


def description(results: Results) -> str:
    """The loop as a Markdown table, one row for each vertical and one column for each stage."""
    best, shown = results.best, results.shown
    others = ", ".join(f"{stage} {found.macro_accuracy:.3f}" for stage, found in shown.items() if stage != best)
    macro = f"Macro accuracy on {results.split} **{shown[best].macro_accuracy:.3f}** ({others})."
    lines = [
        f"Best stage on validation: **{best}**. {macro}",
        "",
        _row("", [f"**{stage}**" if stage == best else stage for stage in shown]),
        _row("---", ["---:"] * len(shown), ""),
    ]
    for vertical in shown[best].verticals:
        scores = [found.verticals.get(vertical) for found in shown.values()]
        lines.append(_row(_plain(vertical), [f"{found.accuracy:.3f}" if found else "" for found in scores]))
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one cell of a table."""
    return _MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def _row(name: str, cells: list[str], gap: str = "&emsp;") -> str:
    # MLflow's page leaves no room between columns.
    return " | ".join([f"| {name}", *(f"{gap}{cell}" for cell in cells)]) + " |"
