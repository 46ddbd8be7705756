"""Whom a candidate is compared with, and what that model answers on this run's gold."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from attrloop.components.evaluate.evaluate import METRICS, PREDICTIONS, evaluate
from attrloop.components.register_adapter.versions import ADAPTER, adapter_digest, adapter_files
from attrloop.components.shared import tracking
from attrloop.components.shared.config import ModelConfig, PromptConfig, RunConfig
from attrloop.components.shared.errors import AttrloopError, fail
from attrloop.components.shared.state import LoopState
from attrloop.components.shared.storage import MANIFEST, Stage
from attrloop.components.shared.workspace import LABELS, Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


def alias(client: "MlflowClient", name: str) -> str | None:
    """The version that carries the alias `champion` in MLflow; None for none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, tracking.CHAMPION).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def exists(client: "MlflowClient", name: str, version: str) -> bool:
    """Whether a version is registered."""
    return bool(client.search_model_versions(f"name = '{name}' and version_number = '{int(version)}'")) if version.isdigit() else False


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
        raise fail(f"{ws.store.root}/{path}", "no predictions on test", "Evaluate every stage on the test split before promoting")
    return pl.read_parquet(ws.store.file(f"{path}/{PREDICTIONS}"))


def champion_predictions(ws: Workspace, state: LoopState, client: "MlflowClient", uri: str, name: str, version: str) -> pl.DataFrame:
    """A champion's predictions on this run's test gold: reused when the champion is one of this run's stages, else decoded.

    The champion decodes with the base model, image bounds and prompt that it was registered with, over this run's schema and gold. What it answered is kept
    in `evaluate/test/champion-<version>`.
    """
    tags = client.get_model_version(name, version).tags
    for outcome in state.outcomes:
        if outcome.adapter and adapter_digest(ws.store.folder(outcome.adapter)) == tags.get("adapter_digest"):
            return predictions(ws, f"evaluate/test/{outcome.stage}")
    who = f"champion-{version}"
    made_from = {"adapter": tags.get("adapter_digest", f"version {version}"), "data": ws.data_digest, "config": ws.config.digest("evaluate")}
    stage = Stage(ws.store, f"evaluate/test/{who}", made_from)
    if stage.manifest is None:
        log.info("decoding %s on this run's gold", who)
        home = _guest(ws, uri, f"models:/{name}/{version}", f"champions/{version}")
        evaluate(home.store.root, {who: f"source/{ADAPTER}"}, "test")
        for file in (PREDICTIONS, METRICS):
            shutil.copy(home.store.file(f"evaluate/test/{who}/{file}"), stage.folder / file)
        stage.finish("evaluation", {"predictions": predictions(ws, stage.path).height}, [PREDICTIONS, METRICS])
    return predictions(ws, stage.path)


def _guest(ws: Workspace, uri: str, model: str, path: str) -> Workspace:
    """A workspace inside this run's, with the champion's adapter and settings and this run's labels."""
    import mlflow

    with tracking.fluent(uri), tempfile.TemporaryDirectory() as folder:
        mlflow.artifacts.download_artifacts(model, dst_path=folder)
        settings = mlflow.models.Model.load(folder).flavors.get("python_function", {}).get("config") or {}
        adapter = Path(folder, "artifacts", ADAPTER)
        if "base" not in settings or not adapter.is_dir():
            raise AttrloopError(f"{model} was not registered by attrloop and cannot be compared with: move the alias {tracking.CHAMPION} to a version that was")
        guest = Workspace.create(f"{ws.store.root}/{path}", _as_registered(ws.config, settings))
        stage = Stage(guest.store, "source", {"adapter": adapter_digest(adapter)})
        if stage.manifest is None:
            (stage.folder / ADAPTER).mkdir(exist_ok=True)
            for file in adapter_files(adapter):
                shutil.copy(file, stage.folder / ADAPTER)
            stage.finish("adapter", {"files": len(adapter_files(adapter))}, [ADAPTER])
    for path in (LABELS, f"annotate/{MANIFEST}"):
        guest.store.write(path, ws.store.read(path))
    return guest


def _as_registered(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """This run's config with what a registered model says of its base, its images, its prompt and its length."""
    model, prompt = ({key: settings[key] for key in kind.model_fields if key in settings} for kind in (ModelConfig, PromptConfig))
    evaluation = config.evaluate.model_copy(update={"max_new_tokens": settings["max_new_tokens"]})
    return config.model_copy(update={"model": ModelConfig.model_validate(model), "prompt": PromptConfig.model_validate(prompt), "evaluate": evaluation})
