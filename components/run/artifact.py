"""`Artifact`: a folder of the workspace that one step fills and finishes once.

An artifact is finished when it has a `manifest.json`, which is written last. The manifest holds digests of everything
the artifact was made from, and of its own files. So no work is done twice, and no outdated or damaged work is reused.
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from attrloop.components.digests import digest
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import (
    DamagedError,
    Manifest,
    Member,
    content_digest,
    hashed,
    members_of,
    read_manifest,
    verify,
)
from attrloop.components.run.reporting import made
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.store import INPUTS, MANIFEST, Store

KEPT = "kept"  # names the records of what was kept before the artifact was finished: a digest of each file or folder
log = logging.getLogger(__name__)


class Artifact:
    """A folder of the store that one step fills.

        artifact = Artifact.begin(ws, "iteration-1/pairs", MadeFrom(VERSION, {"chains": "iteration-1/chains"}))
        if artifact.manifest is None:  # not finished, or made from other inputs
            ...write files below artifact.folder...
            artifact.finish("pairs", {"pairs": n}, ["pairs.parquet"])

    `begin` opens it for a step. That removes what was made from other inputs, and what is damaged.

    Args:
        store: of the workspace.
        path: of the folder in the store (see `layout`).
        made_from: a digest of every input, by name.

    Attributes:
        folder: the local folder to write to. After a kill it still holds what was written from the same inputs.
        manifest: None until the artifact is finished.
    """

    def __init__(self, store: Store, path: str, made_from: dict[str, str]) -> None:
        self.store, self.path, self.made_from = store, path, made_from
        self._inputs = json.dumps(made_from, sort_keys=True).encode()
        self.manifest = self._sound()
        if self.manifest is None:
            self._open()
        self.folder = store.folder(path)

    def _sound(self) -> Manifest | None:
        """The manifest of what was made from the same inputs and is undamaged; all else is removed."""
        store, path = self.store, self.path
        try:
            manifest = read_manifest(store, path)
            if manifest is not None and manifest.made_from == self.made_from:
                verify(store, path, manifest)
                return manifest
            unreadable = [name for name in (MANIFEST, INPUTS) if Path(store.root, path, name).is_dir()]
            if unreadable:
                raise DamagedError(f"{store.root}/{path}", f"{unreadable[0]} is a folder")
        except DamagedError as error:
            log.warning("%s is %s: it is made again", error.artifact, error.what)
            manifest = None
            store.remove(path)
        if manifest is not None:
            store.remove(path)
        return None

    def _open(self) -> None:
        """Records the inputs. Work that was begun from others, or without a record of them, is removed."""
        store, name = self.store, f"{self.path}/{INPUTS}"
        if not store.exists(name) and store.list(self.path) and not store.exists(name):
            log.warning("%s/%s is damaged (%s is missing): it is made again", store.root, self.path, INPUTS)
            store.remove(self.path)
        # With `create` one pod wins: if several begin at once, none removes the work of another.
        if not store.create(name, self._inputs) and store.read(name) != self._inputs:
            store.remove(self.path)
            store.write(name, self._inputs)

    @staticmethod
    def begin(ws: Workspace, path: str, made_from: MadeFrom) -> "Artifact":
        """Opens the artifact of a step: the one way in which every step begins.

        Args:
            ws: the run's workspace.
            path: of the folder in the workspace (see `layout`).
            made_from: all inputs.

        Raises:
            InputError: an artifact that this one is made from is not finished; or a file of the catalogue is missing.
        """
        return Artifact(ws.store, path, made_from.digests(ws))

    def keep(self, name: str) -> None:
        """Makes a file or folder below `folder` durable, with a record of its content (see `kept`).

        Raises:
            AttrloopError: another run has begun this artifact anew, from other inputs.
        """
        self._check_own()
        self.store.keep(f"{self.path}/{name}")
        record = self._record(name)
        write_atomic(record, self._content(name).encode())
        self.store.keep(f"{self.path}/{record.relative_to(self.folder)}")
        made()

    def kept(self, name: str) -> bool:
        """Whether a file or folder below `folder` was kept, by whatever process, and is what it was then.

        What is damaged is named in the log. Whoever asks makes it again. A file without a record counts as kept: a kill
        came between the two, and files are written in one step.
        """
        if self.manifest is not None:  # all its files were compared when it was opened
            return any(f"{member}/".startswith(f"{name}/") for member in self.manifest.members)
        record, path = self._record(name), self.folder / name
        if not path.exists() or not record.is_file():
            return path.is_file()
        if record.read_bytes() == self._content(name).encode():
            return True
        log.warning("%s/%s/%s is damaged: it is made again", self.store.root, self.path, name)
        return False

    def finish(self, kind: str, counts: dict[str, float], files: Iterable[str], notes: Iterable[str] = ()) -> Manifest:
        """Makes the artifact durable and writes its manifest.

        Args:
            kind: what the artifact is, e.g. `pairs`.
            counts: how many of what.
            files: files or folders below `folder` that others build on.
            notes: files below `folder` that belong to the artifact, but that no other artifact is made from.

        Raises:
            AttrloopError: another run has begun this artifact anew, from other inputs.
        """
        names, more = sorted(files), sorted(notes)
        self._check_own()
        for name in (*names, *more):
            self.store.keep(f"{self.path}/{name}")
        found, stamps = members_of(self.folder, (*names, *more)), self.store.stamps(self.path)
        members = {}
        for file in found:
            name = str(file.relative_to(self.folder))
            stamp = stamps[f"{self.path}/{name}"]
            members[name] = Member(size=stamp.size, digest=hashed(file), version=stamp.version)
        self.manifest = Manifest(
            kind=kind,
            counts=counts,
            files=names,
            digest=content_digest(self.folder, members_of(self.folder, names)),
            made_from=self.made_from,
            members=members,
        ).sealed()
        self.store.write(f"{self.path}/{MANIFEST}", self.manifest.model_dump_json(indent=1).encode())
        made()
        return self.manifest

    def _record(self, name: str) -> Path:
        return self.folder / f"{KEPT}-{digest(name)}.txt"

    def _content(self, name: str) -> str:
        return content_digest(self.folder, members_of(self.folder, [name]))

    def _check_own(self) -> None:
        try:
            own = self.store.read(f"{self.path}/{INPUTS}") == self._inputs
        except InputError:  # removed
            own = False
        if not own:
            raise AttrloopError(
                f"{self.store.root}/{self.path}: begun anew from other inputs while it was being made. "
                "Two runs are at work in this workspace: stop one, and start the other again"
            )
