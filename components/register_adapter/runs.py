"""The MLflow runs of a loop. Writing them twice changes nothing.

Each run carries the keys of its loop and the name of its stage as tags, by which it is found again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag

from attrloop.components.storage.buckets import scheme
from attrloop.components.tracking.code import actor, git_sha
from attrloop.components.tracking.server import injected_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

WORKSPACE, INPUTS, STAGE = "attrloop.workspace", "attrloop.inputs", "attrloop.stage"
LOOP = "loop"  # the stage tag of the parent run
_BATCH = 100  # of parameters and tags; MLflow takes ten times as many metrics


@dataclass(frozen=True)
class Runs:
    """The runs of one loop.

    Attributes:
        client: an MLflow client.
        experiment: id of their experiment.
        keys: tags that identify the loop: its workspace with its config, and what it made. A loop that made something
            else has other metrics, and needs other runs: MLflow would keep the old values beside the new ones.
        tags: further tags of all runs.
    """

    client: "MlflowClient"
    experiment: str
    keys: dict[str, str]
    tags: dict[str, str]

    def find(self, stage: str) -> Run | None:
        """The run of a stage, the oldest of several."""
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in {**self.keys, STAGE: stage}.items())
        found = self.client.search_runs([self.experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
        return found[0] if found else None

    def parent(self, name: str, uri: str, start: int) -> Run:
        """The loop's run: the one from an earlier call, or the one that an orchestrator created, or a new one.

        Args:
            name: name of a new run.
            uri: URI of the tracking store, to know whether it holds the orchestrator's run.
            start: Unix time of a new run in milliseconds.
        """
        found = self.find(LOOP)
        if found:
            return found
        if joined := injected_run(uri):
            self.log(joined, tags={**self.tags, **self.keys, STAGE: LOOP})
            return self.client.get_run(joined)
        return self._create(name, LOOP, start, {})

    def child(self, parent: Run, stage: str, start: int, tags: dict[str, str]) -> Run:
        """A stage's run below the loop's."""
        return self.find(stage) or self._create(stage, stage, start, {"mlflow.parentRunId": parent.info.run_id, **tags})

    def _create(self, name: str, stage: str, start: int, tags: dict[str, str]) -> Run:
        known = {
            "mlflow.user": actor(),
            "mlflow.source.name": "attrloop",
            **({"mlflow.source.git.commit": git_sha()} if git_sha() else {}),
        }
        return self.client.create_run(
            self.experiment, start, {**known, **self.tags, **tags, **self.keys, STAGE: stage}, name
        )

    def log(self, run: str, params: dict[str, str] | None = None, tags: dict[str, str] | None = None) -> None:
        """Writes parameters and tags."""
        rows = [Param(key, value) for key, value in (params or {}).items()]
        for start in range(0, len(rows), _BATCH):
            self.client.log_batch(run, params=rows[start : start + _BATCH])
        marks = [RunTag(key, value) for key, value in (tags or {}).items()]
        for start in range(0, len(marks), _BATCH):
            self.client.log_batch(run, tags=marks[start : start + _BATCH])

    def read(self, run: str, source: str, digest: str) -> None:
        """Writes which data a run is about."""
        data = Dataset(Path(source).name, digest, scheme(source) or "local", json.dumps({"uri": source}))
        self.client.log_inputs(run, [DatasetInput(data)])

    def measure(self, run: Run, points: Iterable[tuple[int, dict[str, float]]], model_id: str | None = None) -> None:
        """Writes metrics by step. Their time is the run's start, so that writing them again adds nothing.

        Args:
            run: the run that they describe.
            points: (step, metrics).
            model_id: the logged model that they also describe.
        """
        rows = [
            Metric(key, value, run.info.start_time, step, model_id=model_id)
            for step, flat in points
            for key, value in flat.items()
        ]
        for start in range(0, len(rows), _BATCH * 5):
            self.client.log_batch(run.info.run_id, metrics=rows[start : start + _BATCH * 5])
