"""Tracks a finished loop in MLflow and registers the adapter of its best stage."""

import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrloop.components.digests import digest
from attrloop.components.register_adapter import figures, versions
from attrloop.components.register_adapter.runs import INPUTS, WORKSPACE, Runs
from attrloop.components.run.adapter_files import adapter_digest
from attrloop.components.run.artifact import Artifact, read_manifest
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.state import LoopState, Outcome
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.tracking.code import code_digest
from attrloop.components.tracking.server import connect, experiment_id, explained, injected_run, resolve_uri, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RESULT = "register/result.json"
_BEST = ("macro_accuracy", "validation/macro_accuracy")
log = logging.getLogger(__name__)


@reports("register-adapter")
def register(workspace: str, state_json: str) -> str:
    """Writes the run to MLflow and registers the best stage's adapter as a version with the alias `candidate`.

    One parent run a loop and a child a stage; killed and called again, it goes on with the runs, the model and the version that are there.

    Args:
        workspace: URI of the run's workspace; reads its adapters and evaluations, writes `register/result.json`.
        state_json: the loop's final `LoopState`.

    Returns:
        The number of the model version.

    Raises:
        InputError: stages that were not evaluated, an adapter folder without safetensors.
        AttrloopError: the tracking server is away.
    """
    began = time.monotonic()
    ws, state = Workspace.open(workspace), LoopState.model_validate_json(state_json)
    uri = resolve_uri(ws.config, ws.store.root)
    stage = Artifact(ws.store, RESULT.rpartition("/")[0], _made_from(ws, state, uri))
    if stage.manifest is not None:
        number = json.loads(ws.store.read(RESULT))["model_version"]
        reused(f"version {number} of {ws.config.tracking.model_name}")
        figure("version", number)
        return str(number)
    evaluated = figures.scores(ws, state)
    client = connect(uri)
    with explained(uri):
        result = _Loop.of(ws, state, client, uri, evaluated, digest(stage.made_from)).track()
    write_atomic(stage.folder / "result.json", json.dumps(result, indent=1).encode())
    stage.finish(
        "registration", {"model_version": result["model_version"], "seconds": time.monotonic() - began}, ["result.json"]
    )
    figure("version", result["model_version"])
    return str(result["model_version"])


def attach(workspace: str, names: tuple[str, ...] = ("report.html", "summary.json")) -> None:
    """Adds files of the workspace that were written after registration to the parent run's artifacts.

    Raises:
        AttrloopError: the tracking server is away.
    """
    ws = Workspace.open(workspace)
    result = figures.read_json(ws, RESULT)
    uri = resolve_uri(ws.config, ws.store.root)
    client = connect(uri)
    with explained(uri):
        for name in names:
            if result and ws.store.exists(name):
                client.log_artifact(result["parent_run"], str(ws.store.file(name)))


def workspace_key(ws: Workspace) -> str:
    """Tells the runs of this workspace, under this config, from all others on a tracking server."""
    return digest(ws.store.root, ws.config.digest())


def _made_from(ws: Workspace, state: LoopState, uri: str) -> dict[str, str]:
    folders = [f"evaluate/{split}/{o.stage}" for split in figures.SPLITS for o in state.outcomes] + [
        state.best.adapter.removesuffix("/adapter")
    ]
    digests = {folder: manifest.digest for folder in folders if (manifest := read_manifest(ws.store, folder))}
    return {
        **digests,
        "state": digest(state.model_dump_json()),
        "config": ws.config.digest(),
        "data": ws.data_digest,
        "uri": digest(uri),
    }


@dataclass(frozen=True)
class _Loop:
    """A finished loop on its way into MLflow; every step finds what an earlier attempt left."""

    ws: Workspace
    state: LoopState
    client: "MlflowClient"
    uri: str
    evaluated: dict[str, dict[str, dict[str, Any]]]
    runs: Runs

    @staticmethod
    def of(
        ws: Workspace,
        state: LoopState,
        client: "MlflowClient",
        uri: str,
        evaluated: dict[str, dict[str, dict[str, Any]]],
        inputs: str,
    ) -> "_Loop":
        joined = injected_run(uri)
        experiment = (
            client.get_run(joined).info.experiment_id
            if joined
            else experiment_id(client, uri, ws.config.tracking.experiment)
        )
        tags = {
            "data_digest": ws.data_digest,
            "code_digest": code_digest(),
            "config_digest": ws.config.digest(),
        }
        return _Loop(
            ws,
            state,
            client,
            uri,
            evaluated,
            Runs(client, experiment, {WORKSPACE: workspace_key(ws), INPUTS: inputs}, tags),
        )

    def track(self) -> dict[str, Any]:
        """Writes everything and says where it is."""
        durations = {o.stage: int(figures.seconds(self.ws, o.stage) * 1000) for o in self.state.outcomes}
        parent = self.runs.parent(self.ws.config.name, self.uri, int(time.time() * 1000) - sum(durations.values()))
        self._describe(parent)
        start, runs = parent.info.start_time, {}
        for outcome in self.state.outcomes:
            end = start + durations[outcome.stage]
            runs[outcome.stage], start = self._stage(parent, outcome, start, end), end
        number = self._version(runs[self.state.best.stage])
        self.runs.log(parent.info.run_id, tags={"model_version": f"{self.ws.config.tracking.model_name} {number}"})
        if parent.info.run_id != injected_run(self.uri):  # an orchestrator ends its runs itself
            self.client.set_terminated(parent.info.run_id, "FINISHED", start)
        return {
            "model": self.ws.config.tracking.model_name,
            "model_version": number,
            "stage": self.state.best.stage,
            "adapter_digest": self._digest(self.state.best),
            "tracking_uri": shown_uri(self.uri),
            "experiment": self.runs.experiment,
            "parent_run": parent.info.run_id,
            "runs": runs,
        }

    def _describe(self, parent: "Run") -> None:
        run, best = parent.info.run_id, self.state.best.stage
        note = {"mlflow.note.content": figures.summary(self.state, self.evaluated), "best_stage": best}
        self.runs.log(run, figures.parameters(self.ws.config), note)
        by_stage = [
            (step, figures.figures(self.evaluated[outcome.stage])) for step, outcome in enumerate(self.state.outcomes)
        ]
        self.runs.measure(parent, by_stage)
        chosen = {
            f"best/{key.replace('/', '_')}": value
            for key, value in by_stage[self.state.outcomes.index(self.state.best)][1].items()
            if key in _BEST
        }
        self.runs.measure(parent, [(0, chosen)])
        self.runs.read(run, self.ws.config.data.listings, self.ws.data_digest)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(self.state.model_dump_json(indent=1), encoding="utf-8")
            self.client.log_artifact(run, f"{folder}/state.json")
        self._artifacts(run, ["config.json", "summary.json", "preflight/report.json", "annotate/report.json"])

    def _artifacts(self, run: str, paths: list[str]) -> None:
        for path in paths:
            if self.ws.store.exists(path):
                self.client.log_artifact(run, str(self.ws.store.file(path)), path.rpartition("/")[0] or None)

    def _stage(self, parent: "Run", outcome: Outcome, start: int, end: int) -> str:
        """Id of a stage's run."""
        stage, best = outcome.stage, outcome == self.state.best
        child = self.runs.child(parent, stage, start, self._tags(outcome))
        run, measured = child.info.run_id, figures.figures(self.evaluated[stage])
        model = (
            versions.log_model(
                self.client, self.uri, run, self.ws.store.folder(outcome.adapter), versions.model_config(self.ws)
            )
            if best
            else None
        )
        self.runs.log(run, figures.parameters(self.ws.config, stage))
        self.runs.read(run, self.ws.config.data.listings, self.ws.data_digest)
        self.runs.measure(child, [(0, measured)], model)
        self.runs.measure(child, [(0, figures.effort(self.ws, stage)), *figures.curve(self.ws, stage)])
        self._artifacts(
            run, [f"evaluate/{split}/{stage}/metrics.json" for split in figures.SPLITS] + [f"{stage}/pairs/report.json"]
        )
        self.client.set_terminated(run, "FINISHED", end)
        return run

    def _version(self, run: str) -> int:
        """Number of the best adapter's version."""
        best, name = self.state.best, self.ws.config.tracking.model_name
        model = versions.log_model(
            self.client, self.uri, run, self.ws.store.folder(best.adapter), versions.model_config(self.ws)
        )
        macros = {
            f"{split}_macro_accuracy": f"{found['macro_accuracy']:.4f}"
            for split, found in self.evaluated[best.stage].items()
        }
        own = {"stage": best.stage, "run_id": run, "workspace": self.runs.keys[WORKSPACE]}
        number = versions.register_version(
            self.client, self.uri, name, model, {**self.runs.tags, **self._tags(best), **own, **macros}
        )
        self.client.update_model_version(name, str(number), figures.summary(self.state, self.evaluated))
        return number

    def _digest(self, outcome: Outcome) -> str:
        return adapter_digest(self.ws.store.folder(outcome.adapter))

    def _tags(self, outcome: Outcome) -> dict[str, str]:
        """A stage's ancestry."""
        if not outcome.adapter:
            return {}
        tags = {
            "adapter": outcome.adapter,
            "adapter_digest": self._digest(outcome),
            "parent_adapter": f"base {self.ws.config.model.base}",
        }
        source = figures.origin(self.ws, self.state, outcome)
        if source:
            tags |= {"parent_adapter": source.adapter, "parent_adapter_digest": self._digest(source)}
            known = versions.versions_of(self.client, self.ws.config.tracking.model_name, tags["parent_adapter_digest"])
            tags |= {"parent_version": str(known[0].version)} if known else {}
        return tags
