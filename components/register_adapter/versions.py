"""Adapters as logged models and registered versions, which the digests of adapter and settings identify."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrloop.components.digests import digest, file_digest
from attrloop.components.run import layout
from attrloop.components.run.adapter_files import adapter_digest, adapter_files
from attrloop.components.run.workspace import Workspace
from attrloop.components.tracking.names import ADAPTER, CANDIDATE, LEARNT_DIGEST
from attrloop.components.tracking.requirements import read_requirements
from attrloop.components.tracking.server import fluent

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_MODEL = Path(__file__).with_name("model.py")


def model_config(ws: Workspace) -> dict[str, Any]:
    """The settings with which the registered model predicts as this run did (see model.py)."""
    config = ws.config
    fields = {key: value for key, value in config.model.model_dump(mode="json").items() if not key.startswith("lora_")}
    limits = {"max_new_tokens": config.evaluate.max_new_tokens, "batch_size": config.evaluate.batch_size}
    shown = config.prompt.model_dump(mode="json")
    return {**fields, **shown, **limits, "schema": ws.schema.model_dump(mode="json"), "allowed_folders": ["/"]}


def log_model(
    client: "MlflowClient", uri: str, run: str, folder: Path, config: dict[str, Any], *, learnt: Path | None = None
) -> str:
    """Id of the logged model of an adapter, which is uploaded unless a complete one exists.

    Args:
        client: an MLflow client.
        uri: URI of the tracking store.
        run: id of the run that it comes from.
        folder: the PEFT folder.
        config: see `model_config`.
        learnt: the record of what the adapter has learnt from; None where it has none.
    """
    import mlflow
    from mlflow.entities import LoggedModelStatus

    tags = {"adapter_digest": adapter_digest(folder), "model_digest": digest(config)}
    tags |= {LEARNT_DIGEST: file_digest(learnt)} if learnt else {}
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    for model in client.search_logged_models([client.get_run(run).info.experiment_id], query):
        if model.status == LoggedModelStatus.READY:  # the model of a killed upload stays pending
            return model.model_id
    with fluent(uri), tempfile.TemporaryDirectory() as temporary:
        safe = Path(temporary, ADAPTER)  # MLflow keeps the folder's own name
        safe.mkdir()
        for file in adapter_files(folder):
            shutil.copy(file, safe)
        artifacts = {ADAPTER: str(safe)}
        if learnt:
            artifacts[layout.LEARNT] = str(shutil.copy(learnt, Path(temporary, layout.LEARNT)))
        with mlflow.start_run(run_id=run, nested=True):
            return mlflow.pyfunc.log_model(
                name=ADAPTER,
                python_model=str(_MODEL),
                artifacts=artifacts,
                model_config=config,
                signature=_signature(),
                pip_requirements=read_requirements(folder),
                tags=tags,
                params={key: str(config[key]) for key in ("base", "revision", "dtype", "max_pixels")},
                model_type="lora-adapter",
            ).model_id


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    asked: list[ColSpec | TensorSpec] = [ColSpec("string", name) for name in ("image", "vertical", "attribute")]
    answered: list[ColSpec | TensorSpec] = [
        ColSpec("string", "answer", required=False),
        ColSpec("double", "confidence"),
        ColSpec("string", "rationale"),
    ]
    return ModelSignature(Schema([*asked, ColSpec("string", "title", required=False)]), Schema(answered))


def versions_of(client: "MlflowClient", name: str, adapter: str) -> "list[ModelVersion]":
    """The registered versions of an adapter (by its digest), in the order of their numbers."""
    found = client.search_model_versions(f"name = '{name}' and tags.`adapter_digest` = '{adapter}'")
    return sorted(found, key=lambda entry: int(entry.version))


def register_version(client: "MlflowClient", uri: str, name: str, model: str, tags: dict[str, str]) -> int:
    """Number of the version of a logged model, which is created with `tags` unless it exists.

    A version is an adapter with its settings and its record of what it has learnt from. It becomes the candidate.
    """
    import mlflow

    digests = client.get_logged_model(model).tags
    own = {tag: digests[tag] for tag in ("model_digest", LEARNT_DIGEST) if tag in digests}
    known = [
        v
        for v in versions_of(client, name, digests["adapter_digest"])
        if v.tags.get("model_digest") == digests["model_digest"]
        and v.tags.get(LEARNT_DIGEST) in (None, digests.get(LEARNT_DIGEST))  # earlier versions kept no records
    ]
    if known:
        number = int(known[0].version)
    else:
        with fluent(uri):
            number = int(mlflow.register_model(f"models:/{model}", name, tags={**tags, **own}).version)
    client.set_registered_model_alias(name, CANDIDATE, str(number))
    return number
