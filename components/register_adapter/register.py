"""Tracks a finished loop in MLflow and registers the adapter of its best stage."""

import json
import logging
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrloop.components.catalogue.records import GOLD_SPLITS
from attrloop.components.digests import digest
from attrloop.components.gold.learnt import record_of
from attrloop.components.register_adapter import logged, versions
from attrloop.components.register_adapter.runs import INPUTS, WORKSPACE, Runs
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.adapter_files import adapter_digest
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import has, intact
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.tracking.code import code_digest
from attrloop.components.tracking.server import connect, experiment_id, explained, injected_run, resolve_uri, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

VERSION = 1  # of what is written to MLflow
_BEST = ("macro_accuracy", "validation/macro_accuracy")
log = logging.getLogger(__name__)


@reports("register-adapter")
def register(workspace: str, state_json: str) -> str:
    """Writes the run to MLflow and registers the best stage's adapter as a version with the alias `candidate`.

    A loop is one parent run with a child run for each stage. A killed call that is repeated continues with the runs,
    the model and the version that exist.

    Args:
        workspace: URI of the run's workspace; reads its adapters and evaluations, writes `register/result.json`.
        state_json: the loop's final `LoopState`.

    Returns:
        The number of the model version.

    Raises:
        InputError: a stage was not evaluated, or an adapter folder holds no safetensors.
        AttrloopError: the tracking server is down.
    """
    began = time.monotonic()
    results = Results.of(workspace, state_json)
    results.require("validation")
    ws = results.ws
    uri = resolve_uri(ws.config, ws.store.root)
    artifact = begin(ws, results.state, uri)
    if artifact.manifest is not None:
        number = results.registration["model_version"]
        reused(f"version {number} of {ws.config.tracking.model_name}")
        figure("version", number)
        return str(number)
    log.info("registering %s, the best stage on %s", results.best, results.split)
    client = connect(uri)
    with explained(uri):
        result = _Loop(results, client, uri, digest(artifact.made_from)).track()
    write_atomic(artifact.folder / layout.RESULT, json.dumps(result, indent=1).encode())
    counts = {"model_version": result["model_version"], "seconds": time.monotonic() - began}
    artifact.finish("registration", counts, [layout.RESULT])
    figure("version", result["model_version"])
    return str(result["model_version"])


def workspace_key(ws: Workspace) -> str:
    """Identifies the runs of this workspace, under this config, on a tracking server."""
    return digest(ws.store.root, ws.config.digest())


def begin(ws: Workspace, state: LoopState, uri: str) -> Artifact:
    """Opens the artifact of a registration.

    Raises:
        InputError: the best adapter is not finished, or a stage was not evaluated on validation.
    """
    found = {
        split: {f"{split}/{outcome.stage}": layout.evaluation(split, outcome.stage) for outcome in state.outcomes}
        for split in GOLD_SPLITS
    }
    made_from = MadeFrom(
        VERSION,
        {"adapter": layout.trained_by(state.best.adapter), **found["validation"]},
        optional=found["test"],  # a run that is registered before it has read the test split
        reads=("catalogue",),
        # MLflow records all settings.
        extra={"config": ws.config.digest(), "uri": digest(uri), "state": digest(state.model_dump_json())},
    )
    return Artifact.begin(ws, layout.REGISTER, made_from)


@dataclass(frozen=True)
class _Loop:
    """A finished loop on its way into MLflow; every method continues what an earlier attempt left.

    Attributes:
        inputs: digest of what is registered: another loop of the same workspace has another one.
    """

    results: Results
    client: "MlflowClient"
    uri: str
    inputs: str

    @property
    def ws(self) -> Workspace:
        return self.results.ws

    @property
    def state(self) -> LoopState:
        return self.results.state

    @property
    def model(self) -> str:
        return self.ws.config.tracking.model_name

    @cached_property
    def runs(self) -> Runs:
        joined = injected_run(self.uri)
        experiment = (
            self.client.get_run(joined).info.experiment_id
            if joined
            else experiment_id(self.client, self.uri, self.ws.config.tracking.experiment)
        )
        keys = {WORKSPACE: workspace_key(self.ws), INPUTS: self.inputs}
        tags = {
            "data_digest": self.ws.data_digest,
            "code_digest": code_digest(),
            "config_digest": self.ws.config.digest(),
        }
        return Runs(self.client, experiment, keys, tags)

    def track(self) -> dict[str, Any]:
        """Writes everything; returns what `register/result.json` holds."""
        durations = {stage: int(self.results.seconds(stage) * 1000) for stage in self.results.stages}
        parent = self.runs.parent(self.ws.config.name, self.uri, int(time.time() * 1000) - sum(durations.values()))
        self._describe(parent)
        start, runs = parent.info.start_time, {}
        for outcome in self.state.outcomes:
            end = start + durations[outcome.stage]
            runs[outcome.stage], start = self._stage(parent, outcome, start, end), end
        number = self._version(runs[self.results.best])
        self.runs.log(parent.info.run_id, tags={"model_version": f"{self.model} {number}"})
        if parent.info.run_id != injected_run(self.uri):  # an orchestrator ends its runs itself
            self.client.set_terminated(parent.info.run_id, "FINISHED", start)
        return {
            "model": self.model,
            "model_version": number,
            "stage": self.results.best,
            "adapter_digest": self._digest(self.state.best),
            "tracking_uri": shown_uri(self.uri),
            "experiment": self.runs.experiment,
            "parent_run": parent.info.run_id,
            "runs": runs,
        }

    def _describe(self, parent: "Run") -> None:
        run, best = parent.info.run_id, self.results.best
        note = {"mlflow.note.content": logged.description(self.results), "best_stage": best}
        note |= logged.lineage(self.results)
        self.runs.log(run, logged.parameters(self.ws.config), note)
        self._compare(parent)
        self.runs.read(run, self.ws.config.data.listings, self.ws.data_digest)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, layout.STATE).write_text(self.state.model_dump_json(indent=1), encoding="utf-8")
            self.client.log_artifact(run, f"{folder}/{layout.STATE}")
        self._artifacts(
            run, [layout.CONFIG, layout.SUMMARY, layout.PREFLIGHT_REPORT, layout.ANNOTATE_REPORT, layout.LEFT_OUT_FILE]
        )

    def _compare(self, parent: "Run") -> None:
        """The metrics of the stages as steps of the parent run, which ends with those of the best one.

        MLflow's tables show the last step, and a run has to be compared by the adapter that it keeps.
        """
        best, stages = self.results.best, self.results.stages
        shown = [*stages, *([best] if best != stages[-1] else [])]
        self.runs.measure(parent, [(step, logged.metrics(self.results, stage)) for step, stage in enumerate(shown)])
        found = logged.metrics(self.results, best)
        chosen = {f"best/{name.replace('/', '_')}": found[name] for name in _BEST if name in found}
        self.runs.measure(parent, [(0, chosen)])

    def _artifacts(self, run: str, paths: list[str]) -> None:
        for path in paths:
            folder, store = path.rpartition("/")[0], self.ws.store
            if has(store, path) if folder else store.exists(path):
                file = intact(store, path) if folder else store.file(path)
                self.client.log_artifact(run, str(file), folder or None)

    def _stage(self, parent: "Run", outcome: Outcome, start: int, end: int) -> str:
        """Writes a stage's run; returns its id."""
        stage = outcome.stage
        child = self.runs.child(parent, stage, start, self._tags(outcome))
        run = child.info.run_id
        model = self._logged_model(run) if outcome == self.state.best else None
        self.runs.log(run, logged.parameters(self.ws.config, stage))
        self.runs.read(run, self.ws.config.data.listings, self.ws.data_digest)
        self.runs.measure(child, [(0, logged.metrics(self.results, stage))], model)
        self.runs.measure(child, [(0, logged.effort(self.results, stage)), *logged.curve(self.results, stage)])
        metrics = [layout.metrics(split, stage) for split in GOLD_SPLITS]
        self._artifacts(run, [*metrics, layout.pairs_report(stage)])
        self.client.set_terminated(run, "FINISHED", end)
        return run

    def _logged_model(self, run: str) -> str:
        """Id of the logged model of the best adapter."""
        adapter, config = self.state.best.adapter, versions.model_config(self.ws)
        record = record_of(self.ws.store, adapter)
        folder, learnt = intact(self.ws.store, adapter), record.file if record else None
        return versions.log_model(self.client, self.uri, run, folder, config, learnt=learnt)

    def _version(self, run: str) -> int:
        """Number of the best adapter's version."""
        best, model = self.state.best, self._logged_model(run)
        macros = {
            f"{split}_macro_accuracy": f"{self.results.evaluations[split][best.stage].macro_accuracy:.4f}"
            for split in self.results.splits
        }
        name = self.ws.store.root.rstrip("/").rpartition("/")[2]
        own = {"run": name, "stage": best.stage, "run_id": run, "workspace": self.runs.keys[WORKSPACE]}
        tags = {**self.runs.tags, **self._tags(best), **own, **macros, **logged.lineage(self.results)}
        number = versions.register_version(self.client, self.uri, self.model, model, tags)
        self.client.update_model_version(self.model, str(number), logged.description(self.results))
        return number

    def _digest(self, outcome: Outcome) -> str:
        return adapter_digest(intact(self.ws.store, outcome.adapter))

    def _tags(self, outcome: Outcome) -> dict[str, str]:
        """A stage's ancestry."""
        if not outcome.adapter:
            return {}
        tags = {
            "adapter": outcome.adapter,
            "adapter_digest": self._digest(outcome),
            "parent_adapter": f"base {self.ws.config.model.base}",
        }
        source = self.results.trained_from(outcome)
        if source:
            tags |= {"parent_adapter": source.adapter, "parent_adapter_digest": self._digest(source)}
            known = versions.versions_of(self.client, self.model, tags["parent_adapter_digest"])
            tags |= {"parent_version": str(known[0].version)} if known else {}
        return tags
