"""`Artifact`: a folder of the workspace that one step fills and finishes once.

An artifact is finished when it has a `manifest.json`, which is written last. The manifest holds digests of everything
the artifact was made from. So no work is done twice, and no outdated work is reused.
"""

import json
from collections.abc import Iterable

from attrloop.components.digests import digest, file_digest
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import Manifest, read_manifest
from attrloop.components.run.reporting import made
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.store import INPUTS, MANIFEST, Store


class Artifact:
    """A folder of the store that one step fills.

        artifact = Artifact.begin(ws, "iteration-1/pairs", MadeFrom(VERSION, {"chains": "iteration-1/chains"}))
        if artifact.manifest is None:  # not finished, or made from other inputs
            ...write files below artifact.folder...
            artifact.finish("pairs", {"pairs": n}, ["pairs.parquet"])

    `begin` opens it for a step. That removes what was made from other inputs.

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
        self.manifest = read_manifest(store, path)
        self._inputs = inputs = json.dumps(made_from, sort_keys=True).encode()
        if self.manifest is not None and self.manifest.made_from != made_from:
            self.manifest = None
            store.remove(path)
        # With `create` one pod wins: if several begin at once, none removes the work of another.
        if (
            self.manifest is None
            and not store.create(f"{path}/{INPUTS}", inputs)
            and store.read(f"{path}/{INPUTS}") != inputs
        ):
            store.remove(path)
            store.write(f"{path}/{INPUTS}", inputs)
        self.folder = store.folder(path)

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
        """Makes a file or folder below `folder` durable.

        Raises:
            AttrloopError: another run has begun this artifact anew, from other inputs.
        """
        self._check_own()
        self.store.keep(f"{self.path}/{name}")
        made()

    def finish(self, kind: str, counts: dict[str, float], files: Iterable[str]) -> Manifest:
        """Makes the artifact durable and writes its manifest.

        Args:
            kind: what the artifact is, e.g. `pairs`.
            counts: how many of what.
            files: files or folders below `folder` that others build on.

        Raises:
            AttrloopError: another run has begun this artifact anew, from other inputs.
        """
        names = sorted(files)
        self._check_own()
        for name in names:
            self.store.keep(f"{self.path}/{name}")
        found = (
            file
            for name in names
            for file in ([self.folder / name] if (self.folder / name).is_file() else (self.folder / name).rglob("*"))
        )
        members = sorted(file for file in found if file.is_file())
        content = digest([[str(p.relative_to(self.folder)), file_digest(p)] for p in members])
        self.manifest = Manifest(kind=kind, counts=counts, files=names, digest=content, made_from=self.made_from)
        self.store.write(f"{self.path}/{MANIFEST}", self.manifest.model_dump_json(indent=1).encode())
        made()
        return self.manifest

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
