"""Where artifacts live: a `Store` of files by path, and `Stage`, a folder that one component fills and finishes once.

Writes are atomic (a temporary name, then rename or link). A stage is finished when its `manifest.json` is there, which is written last;
the manifest names the digests of what the stage was made from, so that the same work is never done twice and stale work never reused.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from attrloop.components.shared.errors import explained_disk, fail

MANIFEST = "manifest.json"
_INPUTS = "inputs.json"  # written when a stage begins: partial work is continued only with the same inputs


class Store(Protocol):
    """Files by '/'-separated path below a root URI. `root` is the URI; every method is safe to repeat."""

    root: str

    def exists(self, path: str) -> bool: ...
    def read(self, path: str) -> bytes: ...
    def write(self, path: str, data: bytes) -> None:
        """Atomically creates or replaces a file."""

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file unless it exists; False when it does. Of several concurrent callers exactly one gets True."""

    def list(self, prefix: str) -> list[str]:
        """Paths of all files below a folder, sorted."""

    def remove(self, prefix: str) -> None:
        """Removes a folder with all in it; no error when there is none."""

    def folder(self, path: str) -> Path:
        """A local folder with the files of the stored one, to read from and work in."""

    def keep(self, path: str) -> None:
        """Makes a file or folder that was written below `folder(...)` durable in the store."""


class LocalStore:
    """A `Store` on the local file system: `folder` is the stored folder itself, so there is nothing more to `keep`."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(Path(root).absolute())

    def _at(self, path: str) -> Path:
        return Path(self.root, path)

    def exists(self, path: str) -> bool:
        return self._at(path).exists()

    def read(self, path: str) -> bytes:
        return self._at(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        write_atomic(self._at(path), data)

    def create(self, path: str, data: bytes) -> bool:
        target = self._at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target, data)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def list(self, prefix: str) -> list[str]:
        base = self._at(prefix)
        return sorted(str(file.relative_to(self.root)) for file in base.rglob("*") if file.is_file() and not file.name.startswith(".tmp-"))

    def remove(self, prefix: str) -> None:
        shutil.rmtree(self._at(prefix), ignore_errors=True)

    def folder(self, path: str) -> Path:
        folder = self._at(path)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep(self, path: str) -> None:
        pass


def open_store(uri: str) -> Store:
    """The store at a root URI.

    Raises:
        InputError: for a scheme that is not supported.
    """
    if "://" in uri:
        raise fail(uri, "only local paths are supported by this version", "Give a local path")
    return LocalStore(uri)


def _temporary(target: Path, data: bytes) -> Path:
    with explained_disk(str(target)):
        handle, name = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
    try:
        with explained_disk(str(target)), os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def write_atomic(target: Path, data: bytes) -> None:
    """Creates or replaces a local file in one step: readers see the old content or the new, never a part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(_temporary(target, data), target)


def digest(*parts: bytes | str | Any) -> str:
    """SHA-256 (first 16 hex digits) of bytes, text, or anything JSON can hold."""
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else json.dumps(part, sort_keys=True, default=str).encode()
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 (first 16 hex digits) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Manifest(BaseModel):
    """What a finished stage says of itself.

    Attributes:
        counts: how many of what, e.g. `{"pairs": 812}`.
        digest: of the content of `files`.
        made_from: the digest of every input, by name.
    """

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    kind: str
    counts: dict[str, float]
    files: list[str]
    digest: str
    made_from: dict[str, str]


class Stage:
    """A folder of the store that one component fills.

        stage = Stage(store, "iteration-1/pairs", made_from={"chains": ..., "config": ...})
        if stage.manifest is None:  # not finished yet, or finished from other inputs
            ...write files below stage.folder...
            stage.finish("pairs", {"pairs": n}, ["pairs.parquet"])

    Attributes:
        folder: local working folder; after a kill it still holds what was written, provided the inputs are the same.
        manifest: None until the stage is finished.
    """

    def __init__(self, store: Store, path: str, made_from: dict[str, str]) -> None:
        self.store, self.path, self.made_from = store, path, made_from
        self.manifest = read_manifest(store, path)
        inputs = json.dumps(made_from, sort_keys=True).encode()
        if self.manifest is not None and self.manifest.made_from != made_from:
            self.manifest = None
            store.remove(path)
        if self.manifest is None and (not store.exists(f"{path}/{_INPUTS}") or store.read(f"{path}/{_INPUTS}") != inputs):
            store.remove(path)
            store.write(f"{path}/{_INPUTS}", inputs)
        self.folder = store.folder(path)

    def keep(self, name: str) -> None:
        """Makes a file or folder below `folder` durable."""
        self.store.keep(f"{self.path}/{name}")

    def finish(self, kind: str, counts: dict[str, float], files: Iterable[str]) -> Manifest:
        """Makes `files` (or folders) durable, then writes the manifest: from here on the stage is finished."""
        names = sorted(files)
        for name in names:
            self.keep(name)
        found = (file for name in names for file in ([self.folder / name] if (self.folder / name).is_file() else (self.folder / name).rglob("*")))
        members = sorted(file for file in found if file.is_file())
        content = digest([[str(p.relative_to(self.folder)), file_digest(p)] for p in members])
        self.manifest = Manifest(kind=kind, counts=counts, files=names, digest=content, made_from=self.made_from)
        self.store.write(f"{self.path}/{MANIFEST}", self.manifest.model_dump_json(indent=1).encode())
        return self.manifest


def read_manifest(store: Store, path: str) -> Manifest | None:
    """The manifest of a finished stage, or None."""
    name = f"{path}/{MANIFEST}"
    return Manifest.model_validate_json(store.read(name)) if store.exists(name) else None
