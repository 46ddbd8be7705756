"""Copies an adapter that was trained before into a workspace, as a finished artifact."""

import json
import logging
import shutil
import time

from attrloop.components.errors import fail
from attrloop.components.fetch_adapter.origin import Origin, as_trained, opened, pinned
from attrloop.components.gold.learnt import rows_of, unknown_history, write_record
from attrloop.components.run import layout
from attrloop.components.run.adapter_files import adapter_digest, adapter_files
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import intact, read_manifest
from attrloop.components.run.reporting import reports, reused
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic

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
    manifest, asked = read_manifest(ws.store, layout.START), made_from(asked=adapter)
    if manifest is not None and asked.digests(ws).items() <= manifest.made_from.items():
        reused(manifest.made_from["origin"])
    else:
        name = pinned(ws.config, ws.store.root, adapter)
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
