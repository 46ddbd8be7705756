"""Reads a run's workspace, finished or not. What the run has not made (yet) is absent or empty."""

import json
import logging
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
from pydantic import ValidationError

from attrloop.components.catalogue.records import GOLD_SPLITS
from attrloop.components.documents import read_json
from attrloop.components.errors import InputError, fail
from attrloop.components.gold.learnt import unknown_ancestors
from attrloop.components.gold.left_out import LeftOut, Omission, omissions, recorded
from attrloop.components.results.comparison import Flips, Gain, flips, paired_bootstrap
from attrloop.components.results.evaluation import Evaluation
from attrloop.components.run import layout
from attrloop.components.run.manifest import Manifest, has, intact, read_manifest
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.parquet import read_parquet, scan_parquet

log = logging.getLogger(__name__)
_WHOLE_RUN = (layout.PREFLIGHT, layout.ANNOTATE, layout.REGISTER, layout.PROMOTE)  # folders of no single stage


@dataclass(frozen=True)
class Results:
    """What a run came to.

    Attributes:
        ws: the run's workspace.
        state: the loop's outcomes in order, on validation.
    """

    ws: Workspace
    state: LoopState

    @staticmethod
    def of(workspace: str, state_json: str = "") -> "Results":
        """The results of a workspace.

        Args:
            workspace: URI of the run's workspace.
            state_json: the loop's state; "" for the latest one that the workspace keeps.

        Raises:
            InputError: no trained stage was evaluated yet.
        """
        ws = Workspace.open(workspace)
        return Results(
            ws, LoopState.model_validate_json(state_json) if state_json else _kept_state(ws) or _state_of(ws)
        )

    @property
    def stages(self) -> list[str]:
        """Names of the loop's stages, in order."""
        return [outcome.stage for outcome in self.state.outcomes]

    @property
    def best(self) -> str:
        """The best trained stage on validation."""
        return self.state.best.stage

    @property
    def reference(self) -> str:
        """The stage that gains are compared with."""
        return self.state.reference.stage

    @cached_property
    def evaluations(self) -> dict[str, dict[str, Evaluation]]:
        """Split -> stage -> evaluation; only splits and stages that were evaluated."""
        found = {
            split: {
                stage: _evaluation(self.ws, split, stage) for stage in self.stages if _judged(self.ws, split, stage)
            }
            for split in reversed(GOLD_SPLITS)
        }
        return {split: by_stage for split, by_stage in found.items() if by_stage}

    @property
    def splits(self) -> list[str]:
        """The splits on which all stages can be compared, the one that decides headlines first."""
        return [split for split in GOLD_SPLITS if len(self.evaluations.get(split, {})) == len(self.stages)]

    @property
    def split(self) -> str:
        """The split of the headlines: test once every stage was evaluated on it, validation until then.

        Raises:
            InputError: no split was evaluated for all stages.
        """
        if not self.splits:
            self.require("validation")
        return self.splits[0]

    def require(self, split: str) -> None:
        """Checks that every stage was evaluated on a split.

        Raises:
            InputError: a stage was not.
        """
        for stage in self.stages:
            if stage not in self.evaluations.get(split, {}):
                where = f"{self.ws.store.root}/{layout.evaluation(split, stage)}"
                raise fail(where, "this stage was not evaluated", f"Evaluate every stage on {split} first")

    @property
    def shown(self) -> dict[str, Evaluation]:
        """Stage -> evaluation on the split of the headlines."""
        return self.evaluations[self.split]

    @cached_property
    def predictions(self) -> dict[str, pl.DataFrame]:
        """Stage -> predictions on the split of the headlines."""
        return {stage: self._predictions(stage) for stage in self.shown}

    def _predictions(self, stage: str) -> pl.DataFrame:
        return read_parquet(intact(self.ws.store, layout.predictions(self.split, stage)))

    @cached_property
    def gain(self) -> Gain:
        """The gain of the best stage over the reference, on the split of the headlines."""
        before, after = self.predictions[self.reference], self.predictions[self.best]
        config = self.ws.config
        return paired_bootstrap(before, after, resamples=config.evaluate.bootstrap, seed=config.seed)

    @cached_property
    def flips(self) -> list[tuple[str, str, Flips]]:
        """(before, after, flips) of every stage against the one before it, and of the best one against others.

        The others are the reference, and champions of other runs that the best stage was compared with.
        """
        steps = list(zip(self.stages, self.stages[1:], strict=False))
        if (self.reference, self.best) not in steps and self.reference != self.best:
            steps.append((self.reference, self.best))
        evaluated = set(map(layout.stage_of_evaluation, self.ws.store.list(layout.evaluation(self.split))))
        champions = sorted(name for name in evaluated if layout.is_champion(name) and self._predicted(name))
        known = self.predictions | {name: self._predictions(name) for name in champions}
        compared = set(known[self.best]["listing"])  # a champion may have learnt from all of them
        steps += [(name, self.best) for name in champions if compared.intersection(known[name]["listing"])]
        return [(before, after, flips(known[before], known[after])) for before, after in steps]

    def _predicted(self, name: str) -> bool:
        return _judged(self.ws, self.split, name) and has(self.ws.store, layout.predictions(self.split, name))

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON file of an artifact; empty when it is not there (yet).

        Raises:
            InputError: the file is damaged.
        """
        store = self.ws.store
        if not has(store, path) and not store.exists(path):
            return {}
        # An artifact that is not finished has nothing that its file could be compared with.
        file = intact(store, path) if has(store, path) else store.file(path)
        found = read_json(file.read_bytes(), f"{store.root}/{path}")
        if not isinstance(found, dict):
            raise fail(f"{store.root}/{path}", "not a JSON object", "Start the same command again: it is made again")
        return found

    def mining(self, stage: str) -> dict[str, Any]:
        """What an iteration's mining kept, dropped and why (`mine_pairs.summary`)."""
        return self.read_json(layout.pairs_report(stage))

    def pairs(self, stage: str) -> pl.DataFrame | None:
        """The rows that an iteration trained on, without their chains; `contrast` is False for anchors."""
        path = layout.pairs_file(stage)
        if not has(self.ws.store, path):
            return None
        columns = ("vertical", "attribute", "chosen_answer", "rejected_answer", "source")
        rows = scan_parquet(intact(self.ws.store, path))
        return rows.select(*columns, contrast=pl.col("rejected").is_not_null()).collect()

    def curve(self, stage: str) -> list[dict[str, Any]]:
        """The rows that a stage's training logged, each with its `step`; empty where nothing was trained."""
        path = layout.curve(stage)
        lines = intact(self.ws.store, path).read_bytes().splitlines() if has(self.ws.store, path) else []
        return [row for line in lines if line.strip() and "step" in (row := json.loads(line))]

    def manifests(self, stage: str) -> dict[str, Manifest]:
        """The finished artifacts of a stage by work: `train`, or `chains`, `pairs` and `dpo`; `validation`, `test`."""
        training = layout.training(stage)
        folders = {
            "chains": layout.chains(stage),
            "pairs": layout.pairs(stage),
            "train" if training == stage else "dpo": training,
            **{split: layout.evaluation(split, stage) for split in GOLD_SPLITS},
        }
        found = {work: read_manifest(self.ws.store, folder) for work, folder in folders.items()}
        return {work: manifest for work, manifest in found.items() if manifest}

    def seconds(self, stage: str) -> float:
        """Time spent on a stage, its evaluations included."""
        return sum(manifest.counts.get("seconds", 0.0) for manifest in self.manifests(stage).values())

    @cached_property
    def total_seconds(self) -> float:
        """Time spent on all stages, and on what serves the whole run."""
        others = (read_manifest(self.ws.store, folder) for folder in _WHOLE_RUN)
        whole = sum(manifest.counts.get("seconds", 0.0) for manifest in others if manifest)
        return whole + sum(map(self.seconds, self.stages))

    @cached_property
    def left_out(self) -> list[LeftOut]:
        """The gold listings that no stage is judged by, of all splits."""
        return recorded(self.ws.store)

    @cached_property
    def omissions(self) -> dict[str, Omission]:
        """How much gold no stage is judged by, by split; only splits with something left out."""
        return omissions(self.ws)

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Ancestors of the best adapter whose history is unknown."""
        return unknown_ancestors(self.ws.store, self.state.best.adapter)

    @cached_property
    def registration(self) -> dict[str, Any]:
        """What `register_adapter` returned about the model's version and its runs."""
        return self.read_json(layout.REGISTRATION)

    @cached_property
    def promotion(self) -> dict[str, Any]:
        """What `promote` decided and why."""
        return self.read_json(layout.PROMOTION)

    def trained_from(self, outcome: Outcome) -> Outcome | None:
        """The stage whose adapter this one was trained from; None for one that started from the base model."""
        trained = read_manifest(self.ws.store, layout.trained_by(outcome.adapter))
        source = trained.made_from.get("adapter", "") if trained else ""
        earlier = self.state.outcomes[: self.state.outcomes.index(outcome)]
        for candidate in earlier if source else ():
            if candidate.adapter and candidate.adapter != outcome.adapter:
                made = read_manifest(self.ws.store, layout.trained_by(candidate.adapter))
                if made and made.digest == source:
                    return candidate
        return None


def _kept_state(ws: Workspace) -> LoopState | None:
    """The state that the workspace keeps; None where there is none, or where it is damaged."""
    where = f"{ws.store.root}/{layout.STATE}"
    if not ws.store.exists(layout.STATE):
        return None
    try:
        state = LoopState.model_validate(read_json(ws.store.read(layout.STATE), where))
    except (InputError, ValidationError):
        state = None
    if state and all(_evaluated(ws, outcome, state) for outcome in state.outcomes):
        return state
    log.warning("%s is damaged: the evaluations tell which stages there are", where)
    return None


def _evaluated(ws: Workspace, outcome: Outcome, state: LoopState) -> bool:
    """Whether the evaluations say the same of a stage."""
    known = {layout.adapter(other.stage) for other in state.outcomes} | {layout.adapter(layout.START)}
    if outcome.adapter not in known or not _judged(ws, "validation", outcome.stage):
        return False
    return _evaluation(ws, "validation", outcome.stage).macro_accuracy == outcome.macro


def _judged(ws: Workspace, split: str, stage: str) -> bool:
    """Whether a stage was evaluated on a split, with the labels that there are now."""
    manifest, labels = (read_manifest(ws.store, path) for path in (layout.evaluation(split, stage), layout.ANNOTATE))
    if manifest is None or labels is None:
        return manifest is not None
    return manifest.made_from.get("labels", labels.digest) == labels.digest


def _evaluation(ws: Workspace, split: str, stage: str) -> Evaluation:
    return Evaluation.model_validate_json(intact(ws.store, layout.metrics(split, stage)).read_bytes())


def _state_of(ws: Workspace) -> LoopState:
    """The state of a run that was stopped before it wrote one: the stages whose validation metrics exist."""
    found = set(map(layout.stage_of_evaluation, ws.store.list(layout.evaluation("validation"))))
    names = {name for name in found if _judged(ws, "validation", name)}
    order = sorted(names, key=lambda name: [name != "base", *(int(part) for part in re.findall(r"\d+", name))])
    outcomes = []
    for name in order:
        macro = _evaluation(ws, "validation", name).macro_accuracy
        outcomes.append(Outcome(stage=name, adapter=layout.adapter(name), macro=macro))
    if not any(outcome.adapter for outcome in outcomes):
        where, what = ws.store.root, "no trained stage was evaluated yet"
        raise fail(where, what, "Let the run get as far as the evaluation of SFT")
    return LoopState(outcomes=tuple(outcomes))
