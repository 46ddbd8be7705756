"""Where artifacts live: a `Store` of files by path, and `Stage`, a folder that one component fills and finishes once.

Writes are atomic (a temporary name, then rename or link). A stage is finished when its `manifest.json` is there, which is written last;
the manifest names the digests of what the stage was made from, so that the same work is never done twice and stale work never reused.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from attrloop.components.shared.errors import AttrloopError, InputError, Problem, explained_disk, fail

SCHEME = "gs://"
MANIFEST = "manifest.json"
INPUTS = "inputs.json"  # written when a stage begins: partial work is continued only with the same inputs
TEMPORARY = ".tmp-"  # how the names of files begin that are not finished


class Store(Protocol):
    """Files by '/'-separated path below a root URI; every method is safe to repeat.

    Attributes:
        root: the URI.
        home: a local folder, made by whoever uses it, for what can be computed again and is never stored.

    Raises:
        InputError: a file that is not there.
        AttrloopError: a store that cannot be reached, or may not be read or written.
    """

    root: str
    home: Path

    def exists(self, path: str) -> bool:
        """Whether there is a file."""

    def read(self, path: str) -> bytes: ...
    def write(self, path: str, data: bytes) -> None:
        """Atomically creates or replaces a file."""

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file unless it exists; False when it does. Of several concurrent callers exactly one gets True."""

    def remove(self, prefix: str) -> None:
        """Removes a folder with all in it; no error when there is none."""

    def file(self, path: str) -> Path:
        """A local file with the content of the stored one, to read from."""

    def folder(self, path: str) -> Path:
        """A local folder with the files of the stored one, to read from and work in; nothing else is in it at first."""

    def keep(self, path: str) -> None:
        """Makes a file or folder that was written below `folder(...)` durable: what is stored is then what is there, also where files are gone.

        Another process sees a folder as a whole or not at all.
        """

    def check(self) -> list[Problem]:
        """What will keep a run from writing here, as far as can be told without writing."""

    def list(self, prefix: str) -> list[str]:
        """Paths of all files below a folder, sorted."""


def open_store(uri: str | Path) -> Store:
    """The store at a root: a local path, or `gs://<bucket>/<path>`.

    Raises:
        InputError: for a scheme that is not supported.
    """
    text = str(uri)
    if "://" not in text:
        from attrloop.components.shared.storage.local import LocalStore

        return LocalStore(text)
    if not text.startswith(SCHEME):
        raise fail(text, f"{text.partition('://')[0]!r} is not a kind of storage", "Give a local path or gs://<bucket>/<path>")
    from attrloop.components.shared.storage.gcs import GcsStore  # slow to import, and not needed on one machine

    return GcsStore(text)


def cache_folder() -> Path:
    """The local folder for copies and for what can be computed again: ATTRLOOP_CACHE, by default `attrloop` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ATTRLOOP_CACHE") or Path(base, "attrloop")).absolute()


def unfinished(target: Path, data: bytes) -> Path:
    """A file with the data beside `target`, on the disk, to be renamed or linked."""
    with explained_disk(str(target)):
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
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
    os.replace(unfinished(target, data), target)


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
        self._inputs = inputs = json.dumps(made_from, sort_keys=True).encode()
        if self.manifest is not None and self.manifest.made_from != made_from:
            self.manifest = None
            store.remove(path)
        # Created, not written: of several pods that begin the stage at once none removes what another has done.
        if self.manifest is None and not store.create(f"{path}/{INPUTS}", inputs) and store.read(f"{path}/{INPUTS}") != inputs:
            store.remove(path)
            store.write(f"{path}/{INPUTS}", inputs)
        self.folder = store.folder(path)

    def keep(self, name: str) -> None:
        """Makes a file or folder below `folder` durable.

        Raises:
            AttrloopError: the stage was begun anew from other inputs in the meantime: what is there belongs to another run.
        """
        self._check_own()
        self.store.keep(f"{self.path}/{name}")

    def finish(self, kind: str, counts: dict[str, float], files: Iterable[str]) -> Manifest:
        """Makes `files` (or folders) of `folder` durable, then writes the manifest: from here on the stage is finished."""
        names = sorted(files)
        self._check_own()
        for name in names:
            self.store.keep(f"{self.path}/{name}")
        found = (file for name in names for file in ([self.folder / name] if (self.folder / name).is_file() else (self.folder / name).rglob("*")))
        members = sorted(file for file in found if file.is_file())
        content = digest([[str(p.relative_to(self.folder)), file_digest(p)] for p in members])
        self.manifest = Manifest(kind=kind, counts=counts, files=names, digest=content, made_from=self.made_from)
        self.store.write(f"{self.path}/{MANIFEST}", self.manifest.model_dump_json(indent=1).encode())
        return self.manifest

    def _check_own(self) -> None:
        try:
            own = self.store.read(f"{self.path}/{INPUTS}") == self._inputs
        except InputError:  # removed
            own = False
        if not own:
            what = "begun anew from other inputs while it was being made. Two runs are at work in this workspace: stop one, and start the other again"
            raise AttrloopError(f"{self.store.root}/{self.path}: {what}")


def read_manifest(store: Store, path: str) -> Manifest | None:
    """The manifest of a finished stage, or None."""
    name = f"{path}/{MANIFEST}"
    return Manifest.model_validate_json(store.read(name)) if store.exists(name) else None
