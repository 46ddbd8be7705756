"""What a report tells, gathered from a run's workspace; whatever a run has not made (yet) is simply absent."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from attrloop.components.errors import fail
from attrloop.components.evaluate.metrics import CONFIDENCE, flips, paired_bootstrap
from attrloop.components.run.artifact import Manifest, read_manifest
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace

STATE = "state.json"  # the loop's latest state, kept by the evaluations
_SHARED = ("preflight", "annotate", "register", "promote")  # stages of the run that belong to no stage of the loop


@dataclass(frozen=True)
class Facts:
    """A run as its report sees it.

    Attributes:
        state: the loop's outcomes in order, on validation.
    """

    ws: Workspace
    state: LoopState

    @staticmethod
    def of(workspace: str, state_json: str = "") -> "Facts":
        """The facts of a workspace; its state is read from the workspace when it is not given.

        Raises:
            InputError: nothing was evaluated yet.
        """
        ws = Workspace.open(workspace)
        if not state_json and ws.store.exists(STATE):
            state_json = ws.store.read(STATE).decode()
        facts = Facts(ws, LoopState.model_validate_json(state_json) if state_json else _state_of(ws))
        for stage in facts.stages:
            if stage not in facts.metrics.get("validation", {}):
                raise fail(
                    f"{ws.store.root}/evaluate/validation/{stage}",
                    "this stage was not evaluated",
                    "Evaluate every stage on validation before reporting",
                )
        return facts

    @property
    def stages(self) -> list[str]:
        return [outcome.stage for outcome in self.state.outcomes]

    @property
    def best(self) -> str:
        return self.state.best.stage

    @property
    def reference(self) -> str:
        """The stage that gains are told against: the first adapter, or the base model where the first adapter is the best."""
        return self.first if self.first != self.best else self.stages[0]

    @property
    def first(self) -> str:
        """The stage that the iterations started from: supervised training, or an adapter that was trained before."""
        return next(outcome.stage for outcome in self.state.outcomes if outcome.adapter)

    @cached_property
    def split(self) -> str:
        """The split that headlines are about: test once every stage was evaluated on it, validation until then."""
        return "test" if all(stage in self.metrics.get("test", {}) for stage in self.stages) else "validation"

    @cached_property
    def metrics(self) -> dict[str, dict[str, dict[str, Any]]]:
        """split -> stage -> metrics.json."""
        found = {
            split: {stage: self.read(f"evaluate/{split}/{stage}/metrics.json") for stage in self.stages}
            for split in ("validation", "test")
        }
        return {
            split: kept
            for split, by_stage in found.items()
            if (kept := {stage: figures for stage, figures in by_stage.items() if figures})
        }

    @property
    def shown(self) -> dict[str, dict[str, Any]]:
        """stage -> metrics.json on the headline split."""
        return self.metrics[self.split]

    @property
    def attributes(self) -> int:
        """Number of (vertical, attribute) on the headline split."""
        return sum(len(entry["attributes"]) for entry in self.shown[self.best]["verticals"].values())

    @cached_property
    def predictions(self) -> dict[str, pl.DataFrame]:
        """stage -> predictions on the headline split."""
        return {stage: self._predictions(stage) for stage in self.shown}

    def _predictions(self, stage: str) -> pl.DataFrame:
        return pl.read_parquet(self.ws.store.file(f"evaluate/{self.split}/{stage}/predictions.parquet"))

    @cached_property
    def gain(self) -> dict[str, Any]:
        """Paired bootstrap of the best stage against the reference on the headline split."""
        config = self.ws.config
        return paired_bootstrap(
            self.predictions[self.reference],
            self.predictions[self.best],
            config.evaluate.bootstrap,
            CONFIDENCE,
            config.seed,
        )

    @cached_property
    def ledgers(self) -> list[dict[str, Any]]:
        """The flip ledger of every stage against the one before, and of the best against the reference and against champions that it was judged by."""
        steps = [(before, after) for before, after in zip(self.stages, self.stages[1:], strict=False)]
        if (self.reference, self.best) not in steps and self.reference != self.best:
            steps.append((self.reference, self.best))
        found = {
            path.split("/")[2]
            for path in self.ws.store.list(f"evaluate/{self.split}")
            if path.endswith("/predictions.parquet")
        }
        champions = {name: self._predictions(name) for name in sorted(found) if name.startswith("champion-")}
        known = self.predictions | champions
        steps += [(name, self.best) for name in champions]
        return [{"before": before, "after": after, **flips(known[before], known[after])} for before, after in steps]

    def read(self, path: str) -> dict[str, Any]:
        """A JSON file of the workspace; empty when it is not there."""
        return json.loads(self.ws.store.read(path)) if self.ws.store.exists(path) else {}

    def rows(self, path: str) -> list[dict[str, Any]]:
        """The rows of a JSONL file of the workspace; empty when it is not there."""
        return (
            [json.loads(line) for line in self.ws.store.read(path).splitlines() if line.strip()]
            if self.ws.store.exists(path)
            else []
        )

    def pairs(self, stage: str) -> pl.DataFrame | None:
        """The rows that an iteration trained on, without their chains; `contrast` is False for anchors."""
        if not self.ws.store.exists(f"{stage}/pairs/pairs.parquet"):
            return None
        rows = pl.scan_parquet(self.ws.store.file(f"{stage}/pairs/pairs.parquet"))
        return rows.select(
            "vertical",
            "attribute",
            "chosen_answer",
            "rejected_answer",
            "source",
            contrast=pl.col("rejected").is_not_null(),
        ).collect()

    def manifests(self, stage: str) -> dict[str, Manifest]:
        """Finished folders of a stage of the loop, by path."""
        folders = [
            stage,
            *(f"{stage}/{part}" for part in ("chains", "pairs", "dpo")),
            *(f"evaluate/{split}/{stage}" for split in ("validation", "test")),
        ]
        found = {folder: read_manifest(self.ws.store, folder) for folder in folders}
        return {folder: manifest for folder, manifest in found.items() if manifest}

    def minutes(self, stage: str) -> float:
        """Time spent on a stage of the loop, its evaluations included."""
        return sum(manifest.counts.get("seconds", 0.0) for manifest in self.manifests(stage).values()) / 60

    @cached_property
    def total_minutes(self) -> float:
        shared = (read_manifest(self.ws.store, folder) for folder in _SHARED)
        return (
            sum(map(self.minutes, self.stages))
            + sum(manifest.counts.get("seconds", 0.0) for manifest in shared if manifest) / 60
        )

    @cached_property
    def model_version(self) -> int | None:
        version = self.read("register/result.json").get("model_version")
        return int(version) if version is not None else None


def _state_of(ws: Workspace) -> LoopState:
    """The state of a run that was cut short before it could be kept: base, first adapter and the iterations whose validation metrics are there."""
    names = {path.split("/")[2] for path in ws.store.list("evaluate/validation") if path.endswith("/metrics.json")}
    order = sorted(names, key=lambda name: [name != "base", *(int(part) for part in re.findall(r"\d+", name))])
    outcomes = []
    for name in order:
        macro = json.loads(ws.store.read(f"evaluate/validation/{name}/metrics.json"))["macro_accuracy"]
        adapter = (
            "" if name == "base" else f"{name}/dpo/adapter" if name.startswith("iteration-") else f"{name}/adapter"
        )
        outcomes.append(Outcome(stage=name, adapter=adapter, macro=macro))
    if not any(outcome.adapter for outcome in outcomes):
        raise fail(
            ws.store.root, "no trained stage was evaluated yet", "Let the run get as far as the evaluation of SFT"
        )
    return LoopState(outcomes=tuple(outcomes))


def summary(facts: Facts) -> dict[str, Any]:
    """What `summary.json` holds: see summary.schema.json. `test` is null until a stage was evaluated on it."""
    stages = []
    for stage in facts.stages:
        counts = dict.fromkeys(("pairs", "anchors"), 0)
        rows = facts.pairs(stage)
        if rows is not None:
            counts = {"pairs": int(rows["contrast"].sum()), "anchors": int((~rows["contrast"]).sum())}
        accuracies: dict[str, Any] = {}
        for split in ("validation", "test"):
            figures = facts.metrics.get(split, {}).get(stage)
            verticals = (
                {vertical: entry["accuracy"] for vertical, entry in figures["verticals"].items()} if figures else {}
            )
            accuracies[split] = {"macro": figures["macro_accuracy"], "verticals": verticals} if figures else None
        stages.append({"name": stage, **accuracies, **counts, "minutes": round(facts.minutes(stage), 3)})
    return {
        "stages": stages,
        "best": facts.best,
        "model_version": facts.model_version,
        "seed": facts.ws.config.seed,
        "minutes": round(facts.total_minutes, 3),
    }
