"""Where an adapter comes from: the MLflow registry, or another run; and the settings that it was trained with."""

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attrloop.components.digests import digest, file_digest
from attrloop.components.documents import read_json
from attrloop.components.errors import AttrloopError, InputError, fail
from attrloop.components.gold.learnt import Learnt, Role, learnt_by_files, record_of
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.adapter_files import adapter_digest
from attrloop.components.run.config import ModelConfig, PromptConfig, RunConfig
from attrloop.components.run.manifest import has, intact
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage import inputs
from attrloop.components.storage.opening import open_store
from attrloop.components.tracking.names import ADAPTER, CHAMPION, LEARNT_DIGEST
from attrloop.components.tracking.server import connect, explained, fluent, resolve_uri, runs_folder, shown_uri

log = logging.getLogger(__name__)
REGISTRY = "models:/"
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class Origin:
    """A trained adapter outside the workspace.

    Attributes:
        name: `models:/NAME/VERSION`, or the URI of the adapter's folder.
        folder: a local copy of it, to read from.
        settings: the fields of the config's `model` and `prompt` that it was trained with, and `max_new_tokens`.
        learnt: what it has learnt from; None for one that an earlier version made, whose history is unknown.
        known: of one without a record: ids of listings that it is known to have learnt from.
        trained_as: its run and stage, e.g. `shoes-1a2b3c4d/iteration-2`; "" for one that an earlier version registered.
    """

    name: str
    folder: Path
    settings: dict[str, Any]
    learnt: Learnt | None = None
    known: dict[Role, set[str]] = field(default_factory=dict)
    trained_as: str = ""


def pinned(config: RunConfig, root: str, adapter: str) -> str:
    """The adapter by a lasting name: an alias becomes the version that carries it now.

    Args:
        config: says which model "" means, and where the registry is.
        root: URI of the workspace that needs the adapter.
        adapter: see `component.fetch_adapter`.

    Raises:
        InputError: it is not an adapter's name.
        AttrloopError: there is no such alias, or the registry is down.
    """
    adapter = adapter or f"{REGISTRY}{config.tracking.model_name}@{CHAMPION}"
    if not adapter.startswith(REGISTRY):
        return inputs.absolute(adapter).rstrip("/")
    found = _REGISTERED.fullmatch(adapter)
    if found is None:
        raise fail(adapter, "not the name of a registered model", "Write models:/NAME@champion or models:/NAME/VERSION")
    if found["version"]:
        return adapter
    from mlflow.exceptions import MlflowException

    uri = resolve_uri(config, root)
    client = connect(uri)
    with explained(uri):
        try:
            return (
                f"{REGISTRY}{found['name']}/{client.get_model_version_by_alias(found['name'], found['alias']).version}"
            )
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            remedy = "Run the loop first, or name a version"
            raise fail(adapter, f"nothing is registered under this name at {shown_uri(uri)}", remedy) from error


@contextmanager
def opened(config: RunConfig, root: str, name: str) -> Iterator[Origin]:
    """The adapter with a lasting name (`pinned`), for as long as the context lasts.

    Raises:
        InputError: the folder is neither a run's nor an adapter's.
        AttrloopError: there is no such version, attrloop did not register it, or the registry is down.
    """
    if name.startswith(REGISTRY):
        with registered(resolve_uri(config, root), name, runs_folder(root)) as origin:
            yield origin
    else:
        yield _of_a_run(name)


@contextmanager
def registered(uri: str, model: str, runs: str) -> Iterator[Origin]:
    """A registered adapter, downloaded for as long as the context lasts.

    Args:
        uri: URI of the tracking store.
        model: `models:/NAME/VERSION`.
        runs: URI of the folder in which the run may lie that registered it: that tells what an adapter without a record
            has learnt from.

    Raises:
        AttrloopError: attrloop did not register it, or its files or settings are not those that were registered.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        with explained(uri), fluent(uri):
            mlflow.artifacts.download_artifacts(model, dst_path=folder)
            settings = mlflow.models.Model.load(folder).flavors.get("python_function", {}).get("config") or {}
        adapter = Path(folder, "artifacts", ADAPTER)
        if "base" not in settings or not adapter.is_dir():
            raise AttrloopError(
                f"{model} was not registered by attrloop: name a version that was, or move the alias {CHAMPION} to one"
            )
        tags = _tags(uri, model)
        _compare(f"{model} at {shown_uri(uri)}", tags, adapter, settings)
        record = adapter.with_name(layout.LEARNT)
        learnt = Learnt.read(record) if record.exists() else None
        known = {} if learnt else _known(runs, adapter_digest(adapter))
        trained_as = f"{tags['run']}/{tags['stage']}" if {"run", "stage"} <= tags.keys() else ""
        yield Origin(model, adapter, settings, learnt, known, trained_as=trained_as)


def _known(runs: str, adapter: str) -> dict[Role, set[str]]:
    """What the run that registered an adapter without a record tells of it, by the adapter's digest."""
    store = open_store(runs)
    for path in store.list(""):
        run, found, _ = path.partition(f"/{layout.REGISTRATION}")
        if not found:
            continue
        try:
            result = read_json(store.read(path), path)
            if isinstance(result, dict) and result.get("adapter_digest") == adapter:
                return learnt_by_files(open_store(f"{runs}/{run}"))
        except InputError as error:
            log.warning("whether this run tells what the adapter has learnt from cannot be read: %s", error)
    return {}


def _tags(uri: str, model: str) -> dict[str, str]:
    """The tags of `models:/NAME/VERSION`."""
    name, version = model.removeprefix(REGISTRY).rsplit("/", 1)
    with explained(uri):
        tags: dict[str, str] = connect(uri).get_model_version(name, version).tags
        return tags


def _compare(where: str, tags: dict[str, str], adapter: Path, settings: dict[str, Any]) -> None:
    """Compares what was downloaded with the digests that the version carries as tags."""
    wrong = []
    checks = (
        ("adapter_digest", adapter_digest(adapter), "the adapter's files"),
        ("model_digest", digest(settings), "its settings"),
    )
    for tag, now, what in checks:
        if tag not in tags:
            log.warning(
                "%s has no tag %s: it cannot be told whether %s are those that were registered", where, tag, what
            )
        elif tags[tag] != now:
            wrong.append(f"{what} are not those that were registered (tag {tag})")
    record, known = adapter.with_name(layout.LEARNT), tags.get(LEARNT_DIGEST)
    if known and (not record.exists() or file_digest(record) != known):
        wrong.append(f"its record of what it has learnt from is not the one that was registered (tag {LEARNT_DIGEST})")
    if wrong:
        remedy = "Restore them in the artifact store, register the adapter again from its run, or name another version"
        raise fail(where, " and ".join(wrong), remedy)


def _of_a_run(uri: str) -> Origin:
    root, path = uri, ""
    while not (store := open_store(root)).exists(layout.CONFIG):
        root, _, last = root.rpartition("/")
        path = f"{last}/{path}".rstrip("/")
        if root.count("/") < (3 if "://" in uri else 1):
            raise fail(
                uri,
                "not the folder of a run, nor in one",
                "Give a run's folder, an adapter in it, or models:/NAME@champion",
            )
    if not path:
        if not store.exists(layout.STATE) and not store.list(layout.evaluation("validation")):
            raise fail(
                uri, "this run has evaluated no adapter yet", "Let it run to its end, or name an adapter's folder"
            )
        path = Results.of(root).state.best.adapter
    if not has(store, path) or not (folder := intact(store, path)).joinpath("adapter_config.json").is_file():
        raise fail(
            f"{root}/{path}", "no adapter there", "Give a run's folder, or an adapter in it, e.g. .../sft/adapter"
        )
    config = Workspace.open(root).config
    settings = (
        config.model.model_dump(mode="json")
        | config.prompt.model_dump(mode="json")
        | {"max_new_tokens": config.evaluate.max_new_tokens}
    )
    learnt = record_of(store, path)
    known = {} if learnt else learnt_by_files(store)
    stage = layout.stage_of(path)
    return Origin(
        f"{root}/{path}",
        folder,
        json.loads(json.dumps(settings)),
        learnt,
        known,
        trained_as=f"{root.rpartition('/')[2]}/{stage}",
    )


def as_trained(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """A config with the base model, image bounds and prompt that an adapter was trained with.

    If the base model is a local folder that this machine lacks, the config's base model stays: it is taken to be the
    same one in another place.
    """
    model = {key: settings[key] for key in ModelConfig.model_fields if key in settings and not key.startswith("lora_")}
    if Path(model["base"]).is_absolute() and not Path(model["base"]).is_dir():
        model["base"] = config.model.base
    prompt = {key: settings[key] for key in PromptConfig.model_fields if key in settings}
    adopted = {
        "model": ModelConfig.model_validate(config.model.model_dump() | model),
        "prompt": PromptConfig.model_validate(prompt),
    }
    return config.model_copy(update=adopted)
