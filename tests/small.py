"""Small workspaces over plain coloured pictures, and a process that trains in them until it gets a signal."""

import json
import os
import signal
import subprocess
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from attrloop.components.catalogue.records import SPLITS, Label, Listing, Pair, to_frame
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DataConfig, DpoConfig, ModelConfig, RunConfig, SampleConfig, SftConfig
from attrloop.components.run.workspace import Workspace
from tests.splits import write_splits

COLOURS = {"red": "#d33", "green": "#2a4", "blue": "#36c"}
VERTICALS = ("mug", "shirt")
STEPS = {"learning_rate": 2e-2, "batch_size": 4, "checkpoint_steps": 9}
SECTIONS = {
    "sft": SftConfig(epochs=24, feature_noise=0.3, **STEPS),
    "sample": SampleConfig(chains=3, temperature=0.6, views="each", max_new_tokens=16, batch_size=5, shard_size=4),
    "dpo": DpoConfig(epochs=8, **STEPS),
}


def make_workspace(folder: Path, base: Path, per_vertical: int = 10, **sections: Any) -> Workspace:
    """A workspace in `<folder>/run` with labels: in each vertical 4 listings for training and 2 for validation."""
    entry = {"attributes": {"colour": {"values": [*COLOURS, "not_visible"]}}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.yaml").write_text(yaml.safe_dump({"verticals": dict.fromkeys(VERTICALS, entry)}))
    listings, labels = [], []
    for vertical in VERTICALS:
        for k in range(per_vertical):
            colour, images = list(COLOURS)[k % 3], tuple(f"{vertical}-{k}-{view}.png" for view in range(2))
            for size, image in zip((64, 48), images, strict=True):
                picture = Image.new("RGB", (64, size), COLOURS[colour])
                picture.putpixel((0, 0), (20 * k, 100 * VERTICALS.index(vertical), size))  # no two share a photograph
                picture.save(folder / image)
            listings.append(Listing(id=f"{vertical}-{k}", vertical=vertical, images=images))
            if k < 6:
                rationale = f"I see {colour}."
                labels.append(
                    Label(
                        listing=f"{vertical}-{k}",
                        attribute="colour",
                        value=colour,
                        rationale=rationale,
                        split="train" if k < 4 else "validation",
                    )
                )
    (folder / "listings.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in listings))
    data = DataConfig(catalogue_schema=str(folder / "schema.yaml"), listings=str(folder / "listings.jsonl"))
    ws = Workspace.create(
        str(folder / "run"),
        RunConfig(seed=3, data=data, model=ModelConfig(base=str(base), lora_rank=4), **{**SECTIONS, **sections}),
    )
    gold = {label.listing for label in labels if label.split != "train"}
    write_splits(ws, {row.id: "validation" if row.id in gold else "train" for row in listings})
    stage = Artifact(ws.store, "annotate", {})
    (stage.folder / "labels.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in labels))
    stage.finish("labels", {"labels": len(labels)}, ["labels.jsonl"])
    return ws


def change_config(workspace: Path, **changes: dict[str, Any]) -> None:
    """Changes fields of sections of a workspace's config."""
    raw = json.loads((workspace / "config.json").read_text())
    for section, values in changes.items():
        raw[section] |= values
    (workspace / "config.json").write_text(RunConfig.model_validate(raw).model_dump_json())


def write_pairs(ws: Workspace, pairs: list[Pair], stage: str = "iteration-1") -> None:
    folder = Artifact(ws.store, f"{stage}/pairs", {"pairs": json.dumps([pair.model_dump() for pair in pairs])})
    to_frame(pairs, Pair).write_parquet(folder.folder / "pairs.parquet")
    folder.finish("pairs", {"pairs": len(pairs)}, ["pairs.parquet"])


def some_pairs(ws: Workspace) -> list[Pair]:
    """Pairs of several weights and views, every third an anchor."""
    made = []
    labelled = {label.listing for split in SPLITS for label in ws.labels(split)}
    for k, listing in enumerate(row for key, row in ws.listings.items() if key not in labelled):
        right, wrong = list(COLOURS)[k % 3], list(COLOURS)[(k + 1) % 3]
        rejected = None if k % 3 == 2 else wrong
        row = {
            "listing": listing.id,
            "vertical": listing.vertical,
            "attribute": "colour",
            "view": k % 2,
            "agreement": 0.8,
        }
        row |= {"chosen": f"I see {right}. Answer: {right}", "chosen_answer": right, "rejected_answer": rejected}
        row |= {
            "rejected": rejected and f"I see {rejected} all over. Answer: {rejected}",
            "weight": (1.0, 0.5, 0.25)[k // 3 % 3],
        }
        made.append(Pair.model_validate(row | {"source": "consensus" if rejected else "anchor"}))
    return made


def train_until_killed(step: int, stage: str, workspaces: list[str], number: signal.Signals = signal.SIGKILL) -> None:
    """Trains in each workspace in a process that gets a signal, SIGKILL by default, once it has done `step` steps.

    Raises:
        AssertionError: one of them did not end by the signal.
    """
    _train_apart(step, number, stage, workspaces, 128 + number)


def train_apart(stage: str, workspaces: list[str]) -> None:
    """Trains in each workspace to the end, in a process like those of `train_until_killed`: the same bytes."""
    _train_apart(0, signal.SIGKILL, stage, workspaces, 0)


def _train_apart(step: int, number: signal.Signals, stage: str, workspaces: list[str], end: int) -> None:
    task = {"step": step, "signal": int(number), "stage": stage, "workspaces": workspaces}
    process = _trainer()
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps(task | {"environment": dict(os.environ)}) + "\n")
    process.stdin.flush()
    ends = json.loads(process.stdout.readline())
    assert ends == [end] * len(workspaces), f"{ends}: see what was printed to stderr"


@cache
def _trainer() -> "subprocess.Popen[str]":
    """The process that trains; it ends with this one, which closes its input."""
    command = [sys.executable, "-m", "tests.small"]
    root = Path(__file__).parents[1]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    """Trains as each line of the input asks, and answers with the exit codes.

    Every training has a process of its own. They are forked before torch has computed anything: the imports, which
    take long, are done once.
    """
    from attrloop.components.dpo import train as dpo
    from attrloop.components.dpo import trainer  # noqa: F401
    from attrloop.components.model.training import Metrics
    from attrloop.components.sft import train as sft

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what trainings print is no answer
    shown = Metrics.on_step_end
    for task in map(json.loads, sys.stdin):

        def on_step_end(self: Metrics, args: Any, state: Any, control: Any, task: Any = task, **kwargs: Any) -> None:
            shown(self, args, state, control, **kwargs)
            if state.global_step == task["step"]:
                os.kill(os.getpid(), task["signal"])

        Metrics.on_step_end = on_step_end  # type: ignore[method-assign]
        ends = []
        for workspace in task["workspaces"]:
            child = os.fork()
            if not child:
                os.environ |= task["environment"]
                code = 1
                try:
                    if task["stage"] == "sft":
                        sft.train(workspace)
                    else:
                        dpo.train(workspace, task["stage"], sft.ADAPTER)
                    code = 0
                except SystemExit as ended:
                    code = int(ended.code or 0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            status = os.waitpid(child, 0)[1]
            ends.append(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
        print(json.dumps(ends), file=answers, flush=True)


if __name__ == "__main__":
    main()
