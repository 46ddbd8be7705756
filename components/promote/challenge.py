"""Whom a candidate is compared with, and what that model answers on this run's test gold."""

import logging
import shutil
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import polars as pl

from attrloop.components.catalogue.records import Prediction, to_frame
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.evaluate import evaluate as evaluation
from attrloop.components.fetch_adapter.fetch import copy, made_from
from attrloop.components.fetch_adapter.origin import as_trained, registered
from attrloop.components.gold.learnt import unknown_ancestors
from attrloop.components.gold.left_out import LeftOut, judged_by, left_out, recorded
from attrloop.components.gold.sampled import labelled_ids
from attrloop.components.promote.champion import champion, exists
from attrloop.components.promote.ledger import Ledger
from attrloop.components.run import layout
from attrloop.components.run.adapter_files import adapter_digest
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import ASKED, MadeFrom
from attrloop.components.run.manifest import has, intact, read_manifest
from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.parquet import read_parquet
from attrloop.components.storage.store import MANIFEST
from attrloop.components.tracking.server import connect, explained, resolve_uri, runs_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERSION = 1  # of how a champion of another run is brought to answer
_NONE = to_frame([], Prediction)
log = logging.getLogger(__name__)


def evaluate_champion(workspace: str, state_json: str) -> None:
    """Lets the present champion answer this run's test gold, in a step that has an accelerator.

    The gate needs the answers, and has none. A champion that cannot be evaluated is a warning: what this run made must
    be registered all the same.

    Args:
        workspace: URI of the run's workspace; writes `evaluate/test/champion-<version>`.
        state_json: the loop's final `LoopState`.
    """
    ws, state = Workspace.open(workspace), LoopState.model_validate_json(state_json)
    uri, name = resolve_uri(ws.config, ws.store.root), ws.config.tracking.model_name
    try:
        client = connect(uri)
        with explained(uri):
            version = champion(client, name, Ledger(open_store(runs_folder(ws.store.root)), name).head())
            if version:
                Challenge(ws, state, client, uri).champion(version)
    except AttrloopError as error:
        log.warning("the champion could not be evaluated, so nothing can be promoted in its place: %s", error)


@dataclass(frozen=True)
class Opponent:
    """The model that has to be beaten.

    Attributes:
        predictions: on this run's test gold; empty where it has learnt from all of that.
        left_out: test gold that it has learnt from.
        unknown: ancestors of it whose history is unknown.
    """

    predictions: pl.DataFrame
    left_out: tuple[LeftOut, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Challenge:
    """A run whose best stage challenges the champion.

    Attributes:
        ws: the run's workspace.
        state: the loop's final state.
        client: an MLflow client.
        uri: URI of the tracking store.
    """

    ws: Workspace
    state: LoopState
    client: "MlflowClient"
    uri: str

    def candidate(self) -> pl.DataFrame:
        """The predictions of the best stage on test.

        Raises:
            InputError: there are none.
        """
        return self._predictions(self.state.best.stage)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Ancestors of the candidate whose history is unknown."""
        return unknown_ancestors(self.ws.store, self.state.best.adapter)

    def opponent(self, version: str | None) -> Opponent:
        """The model that has to be beaten.

        Args:
            version: the champion's version. None: the candidate must beat SFT, or the base model if SFT is the
                candidate.

        Raises:
            InputError: there are no predictions of the stage.
            AttrloopError: see `champion`.
        """
        if version is None:
            stage = self.state.reference.stage
            return Opponent(self._predictions(stage))
        return self.champion(version)

    def champion(self, version: str) -> Opponent:
        """A champion, with its predictions on this run's test gold.

        They are reused when the champion is a stage of this run. Otherwise the champion decodes, with the base model,
        image bounds and prompt that it was registered with, over this run's schema and gold. Gold that it or
        an ancestor has learnt from is left out.

        Raises:
            AttrloopError: it is no longer registered, or it has to decode and this image has no torch.
        """
        name = self.ws.config.tracking.model_name
        if not exists(self.client, name, version):
            what = f"version {version} of {name}, the champion, is no longer registered"
            raise AttrloopError(f"{what}. Make another one champion: attrloop rollback RUN --to VERSION")
        digest = self.client.get_model_version(name, version).tags.get("adapter_digest", f"version {version}")
        for outcome in self.state.outcomes:
            if outcome.adapter and adapter_digest(intact(self.ws.store, outcome.adapter)) == digest:
                return Opponent(self._predictions(outcome.stage))
        left_out(self.ws)  # unless the test split was read, it is not known yet
        who, artifact = layout.champion_stage(version), self.begin(version, digest)
        if artifact.manifest is None:
            self._decode(version, artifact)
        guest = open_store(f"{self.ws.store.root}/{layout.champion(version)}")
        rows = tuple(row for row in recorded(guest) if row.split == "test")
        predictions = self._predictions(who) if artifact.manifest and artifact.manifest.files else _NONE
        return Opponent(predictions, rows, unknown_ancestors(guest, layout.adapter(layout.START)))

    def begin(self, version: str, adapter: str) -> Artifact:
        """Opens the artifact of a champion's evaluation.

        Args:
            version: the champion's.
            adapter: digest of its adapter.

        Raises:
            InputError: the labels or the splits are not finished.
        """
        made = MadeFrom(
            VERSION,
            {"labels": layout.ANNOTATE},
            config=("model.base", "evaluate"),  # the rest of `model`, and `prompt`, are the champion's own
            reads=ASKED,
            listings=partial(labelled_ids, split="test"),
            extra={"adapter": adapter, "evaluation": f"version {evaluation.VERSION}"},
        )
        return Artifact.begin(self.ws, layout.evaluation("test", layout.champion_stage(version)), made)

    def _decode(self, version: str, artifact: Artifact) -> None:
        """Fills the artifact of a champion's evaluation."""
        who, name = layout.champion_stage(version), self.ws.config.tracking.model_name
        guest = self._guest(f"models:/{name}/{version}", layout.champion(version))
        if not judged_by(guest, "test"):
            artifact.finish("evaluation", {"predictions": 0}, [])
            return
        if find_spec("torch") is None:
            what = "became champion after this run was evaluated, or could not be evaluated then (see that step's log)"
            remedy = "Start the same command again, or make another version champion (attrloop rollback --to)"
            raise AttrloopError(f"version {version} {what}. {remedy}.")
        log.info("decoding %s on this run's gold", who)
        found = evaluation.evaluate(guest.store.root, {who: layout.adapter(layout.START)}, "test")
        for path in (layout.predictions("test", who), layout.metrics("test", who)):
            shutil.copy(intact(guest.store, path), artifact.folder)
        artifact.finish("evaluation", {"predictions": found[who].count}, [layout.PREDICTIONS, layout.METRICS])

    def _guest(self, model: str, path: str) -> Workspace:
        """A workspace inside this run's, like that of a run that starts from the champion with the same labels."""
        ws = self.ws
        with registered(self.uri, model, runs_folder(ws.store.root)) as origin:
            config = as_trained(ws.config, origin.settings)
            evaluation = config.evaluate.model_copy(update={"max_new_tokens": origin.settings["max_new_tokens"]})
            config = config.model_copy(update={"evaluate": evaluation})
            guest = Workspace.create(f"{ws.store.root}/{path}", config)
            copy(origin, Artifact.begin(guest, layout.START, made_from(content=adapter_digest(origin.folder))))
        for folder in (layout.ANNOTATE, layout.SPLITS):
            manifest = read_manifest(ws.store, folder)
            for file in manifest.files if manifest else ():
                guest.store.write(f"{folder}/{file}", intact(ws.store, f"{folder}/{file}").read_bytes())
            guest.store.write(f"{folder}/{MANIFEST}", ws.store.read(f"{folder}/{MANIFEST}"))
        return guest

    def _predictions(self, stage: str) -> pl.DataFrame:
        path = layout.predictions("test", stage)
        if not has(self.ws.store, path):
            where, what = f"{self.ws.store.root}/{layout.evaluation('test', stage)}", "no predictions on test"
            raise fail(where, what, "Evaluate every stage on the test split before promoting")
        return read_parquet(intact(self.ws.store, path))
