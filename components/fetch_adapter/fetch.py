"""Copies an adapter that was trained before into a workspace, as a finished artifact."""

import json
import logging
import shutil
import time
from contextlib import suppress

from attrloop.components.documents import read_json
from attrloop.components.errors import InputError, fail
from attrloop.components.fetch_adapter.origin import Origin, as_trained, opened, pinned
from attrloop.components.gold.learnt import rows_of, unknown_history, write_record
from attrloop.components.run import layout
from attrloop.components.run.adapter_files import adapter_digest, adapter_files
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import DamagedError, intact, read_manifest, verify
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.store import INPUTS, Store

VERSION = 1  # of what is copied
ADAPTER = layout.adapter(layout.START)
log = logging.getLogger(__name__)


@reports("fetch-adapter")
def fetch(workspace: str, adapter: str = "") -> str:
    """Copies the adapter's files and adopts the settings that it was trained with.

    As long as the data are the same, the adapter stays, even when its alias moves to another version.

    Args:
        workspace: URI of the run's workspace; writes `start/`, and `model` and `prompt` in `config.json`.
        adapter: see `component.fetch_adapter`.

    Returns:
        The adapter's path in the workspace.

    Raises:
        InputError: there is no such adapter, or the workspace belongs to a run that trained one itself.
        AttrloopError: the registry is down, or attrloop did not register the model.
    """
    ws = Workspace.open(workspace)
    if read_manifest(ws.store, layout.SFT) is not None:
        raise fail(
            ws.store.root,
            "this workspace holds a run that trained its own first adapter",
            "Give another folder, so that nothing of it is replaced",
        )
    begun = _begun(ws.store)
    same = made_from(asked=adapter).digests(ws).items() <= begun.items()
    if same and _sound(ws.store):
        reused(begun["origin"])
    else:
        # What is damaged is brought again as it was, even where the alias has moved since.
        name = begun["origin"] if same and "origin" in begun else pinned(ws.config, ws.store.root, adapter)
        if f"{name}/".startswith(f"{ws.store.root}/"):
            raise fail(
                name,
                "this adapter is already in this workspace",
                "Give another folder for the run that starts from it",
            )
        with opened(ws.config, ws.store.root, name) as origin:
            content, trained_as = adapter_digest(origin.folder), origin.trained_as or origin.name
            found = made_from(asked=adapter, origin=origin.name, content=content, trained_as=trained_as)
            copy(origin, Artifact.begin(ws, layout.START, found))
            log.info("starting from %s", origin.name)
    config = as_trained(ws.config, json.loads(intact(ws.store, f"{layout.START}/{layout.SETTINGS}").read_bytes()))
    if config != ws.config:
        Workspace.create(ws.store.root, config)
    return ADAPTER


def _begun(store: Store) -> dict[str, str]:
    """What the adapter in the workspace was made from; empty where there is none, or no record that can be read."""
    with suppress(InputError):
        if manifest := read_manifest(store, layout.START):
            return manifest.made_from
    with suppress(InputError):
        found = read_json(store.read(f"{layout.START}/{INPUTS}"), INPUTS)
        return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
    return {}


def _sound(store: Store) -> bool:
    """Whether the adapter in the workspace is finished and undamaged."""
    with suppress(DamagedError):
        if manifest := read_manifest(store, layout.START):
            verify(store, layout.START, manifest)
            return True
    return False


def made_from(**named: str) -> MadeFrom:
    """What an adapter in this workspace is made from; it stays as long as the data are the same.

    Args:
        named: what was asked for, which adapter that was, its digest, and its run and stage, as far as they are known.
    """
    return MadeFrom(VERSION, reads=("catalogue",), extra=named)


def copy(origin: Origin, artifact: Artifact) -> None:
    """Fills an artifact with an adapter's files (`adapter/`), settings and record, unless it is finished."""
    started = time.monotonic()
    if artifact.manifest is not None:
        return
    (artifact.folder / layout.ADAPTER).mkdir(exist_ok=True)
    files = adapter_files(origin.folder)
    for file in files:
        shutil.copy(file, artifact.folder / layout.ADAPTER)
    write_atomic(artifact.folder / layout.SETTINGS, json.dumps(origin.settings, indent=1).encode())
    record = artifact.folder / layout.LEARNT
    if origin.learnt:
        shutil.copy(origin.learnt.file, record)
    else:
        log.warning("%s", unknown_history([origin.name]))
        write_record(record, [rows_of(origin.known)], [origin.name])
    counts = {"files": len(files), "seconds": time.monotonic() - started}
    artifact.finish("adapter", counts, [layout.ADAPTER, layout.LEARNT, layout.SETTINGS])
