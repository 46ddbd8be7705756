"""Whom a candidate is compared with, and what that model answers on this run's gold."""

import logging
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

import polars as pl

from attrloop.components.errors import AttrloopError, fail
from attrloop.components.evaluate.evaluate import METRICS, PREDICTIONS, evaluate
from attrloop.components.fetch_adapter.fetch import copy
from attrloop.components.fetch_adapter.origin import as_trained, registered
from attrloop.components.promote.ledger import Entry, Ledger
from attrloop.components.run import layout
from attrloop.components.run.adapter_files import adapter_digest
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.store import MANIFEST, open_store
from attrloop.components.tracking.names import ADAPTER, CHAMPION
from attrloop.components.tracking.server import connect, explained, resolve_uri, runs_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


def alias(client: "MlflowClient", name: str) -> str | None:
    """The version that carries the alias `champion` in MLflow; None for none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def champion(client: "MlflowClient", name: str, head: Entry | None) -> str | None:
    """The champion's version: what the ledger's head says; without a ledger one that was set by hand, or elsewhere."""
    return head.after if head else alias(client, name)


def exists(client: "MlflowClient", name: str, version: str) -> bool:
    """Whether a version is registered."""
    return (
        bool(client.search_model_versions(f"name = '{name}' and version_number = '{int(version)}'"))
        if version.isdigit()
        else False
    )


def stand_in(state: LoopState) -> str:
    """What the first candidate has to beat: supervised training, or the base model when supervised training is the candidate."""
    names = [outcome.stage for outcome in state.outcomes]
    first = next(outcome.stage for outcome in state.outcomes if outcome.adapter)
    return first if state.best.stage != first else names[0]


def predictions(ws: Workspace, path: str) -> pl.DataFrame:
    """The predictions of an evaluation.

    Raises:
        InputError: there are none.
    """
    if not ws.store.exists(f"{path}/{PREDICTIONS}"):
        raise fail(
            f"{ws.store.root}/{path}",
            "no predictions on test",
            "Evaluate every stage on the test split before promoting",
        )
    return pl.read_parquet(ws.store.file(f"{path}/{PREDICTIONS}"))


def evaluate_champion(workspace: str, state_json: str) -> None:
    """Has the present champion answer this run's test gold, where there is an accelerator: the gate, which needs it, runs without one.

    What keeps it from that is told and no more: what this run has made must be registered all the same.
    """
    ws, state = Workspace.open(workspace), LoopState.model_validate_json(state_json)
    uri, name = resolve_uri(ws.config, ws.store.root), ws.config.tracking.model_name
    try:
        client = connect(uri)
        with explained(uri):
            version = champion(client, name, Ledger(open_store(runs_folder(ws.store.root)), name).head())
            if version:
                champion_predictions(ws, state, client, uri, name, version)
    except AttrloopError as error:
        log.warning("the champion could not be evaluated, so that nothing can be promoted in its place: %s", error)


def champion_predictions(
    ws: Workspace, state: LoopState, client: "MlflowClient", uri: str, name: str, version: str
) -> pl.DataFrame:
    """A champion's predictions on this run's test gold: reused when the champion is one of this run's stages, else decoded.

    The champion decodes with the base model, image bounds and prompt that it was registered with, over this run's schema and gold. What it answered is kept
    in `evaluate/test/champion-<version>`.

    Raises:
        AttrloopError: it is registered no more, or not decoded yet and there is nothing here to decode it with.
    """
    if not exists(client, name, version):
        raise AttrloopError(
            f"version {version} of {name}, the champion, is registered no more. Make another one champion: attrloop rollback RUN --to VERSION"
        )
    tags = client.get_model_version(name, version).tags
    for outcome in state.outcomes:
        if outcome.adapter and adapter_digest(ws.store.folder(outcome.adapter)) == tags.get("adapter_digest"):
            return predictions(ws, f"evaluate/test/{outcome.stage}")
    who = f"champion-{version}"
    made_from = {
        "adapter": tags.get("adapter_digest", f"version {version}"),
        "data": ws.data_digest,
        "config": ws.config.digest("evaluate"),
    }
    stage = Artifact(ws.store, f"evaluate/test/{who}", made_from)
    if stage.manifest is None:
        if find_spec("torch") is None:
            what = "became champion after this run was evaluated, or could not be evaluated then, as its log says"
            raise AttrloopError(
                f"version {version} {what}. Start the same command again, or make another version champion (attrloop rollback --to)."
            )
        log.info("decoding %s on this run's gold", who)
        home = _guest(ws, uri, f"models:/{name}/{version}", f"{layout.CHAMPIONS}/{version}")
        evaluate(home.store.root, {who: f"source/{ADAPTER}"}, "test")
        for file in (PREDICTIONS, METRICS):
            shutil.copy(home.store.file(f"evaluate/test/{who}/{file}"), stage.folder / file)
        stage.finish(
            "evaluation", {"predictions": pl.read_parquet(stage.folder / PREDICTIONS).height}, [PREDICTIONS, METRICS]
        )
    return predictions(ws, stage.path)


def _guest(ws: Workspace, uri: str, model: str, path: str) -> Workspace:
    """A workspace inside this run's, with the champion's adapter and settings and this run's labels."""
    with registered(uri, model) as origin:
        config = as_trained(ws.config, origin.settings)
        evaluation = config.evaluate.model_copy(update={"max_new_tokens": origin.settings["max_new_tokens"]})
        guest = Workspace.create(f"{ws.store.root}/{path}", config.model_copy(update={"evaluate": evaluation}))
        copy(guest.store, "source", {"adapter": adapter_digest(origin.folder)}, origin)
    for path in (layout.LABELS, f"{layout.ANNOTATE}/{MANIFEST}"):
        guest.store.write(path, ws.store.read(path))
    return guest
