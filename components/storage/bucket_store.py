"""A `Store` in a bucket, of whatever kind."""

import atexit
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp

from typing_extensions import override

from attrloop.components.digests import digest
from attrloop.components.errors import Problem, explained_disk
from attrloop.components.storage.buckets import ABSENT, WORKERS, ObjectInfo, explained, locate, open_bucket
from attrloop.components.storage.files import TEMPORARY, cache_folder
from attrloop.components.storage.store import INPUTS, MANIFEST, Stamp, Store

_MARK = ".being-kept"  # an object in a folder whose upload has begun and not ended: readers see no such folder


class BucketStore(Store):
    """A `Store` in a bucket. `folder` and `file` are copies in a temporary folder of this process, so none is stale.

    A file is there as a whole or not at all; the bucket sees to that. A folder is marked while it is being kept, and
    hidden as long as it is marked: no reader takes a half-uploaded folder for a complete one.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.home = cache_folder() / "home" / digest(self.root)
        self._bucket = open_bucket(self.root)
        key = locate(self.root).key
        self._prefix = f"{key}/" if key else ""
        # path -> version that the local copy equals, and the copy's time and size
        self._held: dict[str, tuple[str, int, int]] = {}

    @cached_property
    def _copies(self) -> Path:
        folder = Path(mkdtemp(prefix="attrloop-"))
        # Not sooner: a path may outlive the store that gave it.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _uri(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _local(self, path: str) -> Path:
        return self._copies / path

    @override
    def exists(self, path: str) -> bool:
        return self._look(path) is not None

    @override
    def read(self, path: str) -> bytes:
        with explained(self._bucket, self._uri(path)):
            return self._bucket.read(self._key(path))

    @override
    def write(self, path: str, data: bytes) -> None:
        with explained(self._bucket, self._uri(path)):
            self._bucket.write(self._key(path), data)

    @override
    def create(self, path: str, data: bytes) -> bool:
        with explained(self._bucket, self._uri(path)):
            return self._bucket.create(self._key(path), data)

    @override
    def check(self) -> list[Problem]:
        if not self._prefix:
            remedy = f"Name a folder in it, e.g. {self.root}/runs/first"
            return [Problem(self.root, "a bucket itself cannot be a workspace", remedy)]
        with explained(self._bucket, self.root):
            next(self._bucket.list(self._prefix), None)
        return []

    @override
    def stamps(self, prefix: str) -> dict[str, Stamp]:
        return {path: Stamp(found.size, found.version) for path, found in self._complete(prefix).items()}

    @override
    def list(self, prefix: str) -> list[str]:
        return sorted(self._complete(prefix))

    @override
    def remove(self, prefix: str) -> None:
        names = set(self._stored(prefix))
        # A kill in between leaves neither a manifest without its files, nor files without a record of their inputs.
        first, last = ({name for name in names if name.endswith(f"/{part}")} for part in (MANIFEST, INPUTS))
        for group in (first, names - first - last, last):
            self._delete(prefix, group)

    @override
    def folder(self, path: str) -> Path:
        stored, local = self._complete(path), self._local(path)
        for file in [file for file in local.rglob("*") if file.is_file()]:
            if str(file.relative_to(self._copies)) not in stored:
                file.unlink()
        self._pull(path, stored)
        local.mkdir(parents=True, exist_ok=True)
        return local

    @override
    def file(self, path: str) -> Path:
        found = self._look(path)
        if found is None:
            raise ABSENT.error(self._uri(path))
        self._pull(path, {path: found})
        return self._local(path)

    @override
    def keep(self, path: str) -> None:
        local = self._local(path)
        if local.is_file():
            if self._held.get(path, ())[1:] != _stamp(local):  # else it came from there, or is there already
                self._push(path, [path])
            return
        if not local.is_dir():
            raise FileNotFoundError(local)
        files = [file for file in local.rglob("*") if file.is_file() and not file.name.startswith(TEMPORARY)]
        names = [str(file.relative_to(self._copies)) for file in files]
        stored, mark = self._stored(path), f"{path}/{_MARK}"
        changed = [name for name in names if name not in stored or not self._holds(name, stored[name])]
        gone = sorted(set(stored) - set(names) - {mark})
        if changed or gone or mark in stored:
            self.write(mark, b"")
            self._push(path, changed)
            self._delete(path, gone)
            self._delete(path, [mark])

    def _look(self, path: str) -> ObjectInfo | None:
        with explained(self._bucket, self._uri(path)):
            return self._bucket.look(self._key(path))

    def _stored(self, path: str) -> dict[str, ObjectInfo]:
        """Every object below a folder, by path. Empty objects that consoles make for folders are left out."""
        folder = self._key(f"{path.rstrip('/')}/" if path else "")
        with explained(self._bucket, self._uri(path)):
            listed = [(key, found) for key, found in self._bucket.list(folder) if not key.endswith("/")]
        return {key.removeprefix(self._prefix): found for key, found in listed}

    def _complete(self, path: str) -> dict[str, ObjectInfo]:
        """The same without folders that are being kept."""
        stored = self._stored(path)
        unfinished = tuple(name.removesuffix(_MARK) for name in stored if name.endswith(f"/{_MARK}"))
        return {name: found for name, found in stored.items() if not name.startswith(unfinished)}

    def _holds(self, name: str, found: ObjectInfo) -> bool:
        """Whether the local copy is what is stored."""
        local = self._local(name)
        return local.is_file() and self._held.get(name) == (found.version, *_stamp(local))

    def _pull(self, path: str, stored: dict[str, ObjectInfo]) -> None:
        def pull(name: str) -> None:
            local, version = self._local(name), stored[name].version
            local.parent.mkdir(parents=True, exist_ok=True)
            self._bucket.download(self._key(name), version, local)
            self._held[name] = (version, *_stamp(local))

        self._each(path, pull, [name for name, found in stored.items() if not self._holds(name, found)])

    def _push(self, path: str, names: Iterable[str]) -> None:
        def push(name: str) -> None:
            stamp = _stamp(self._local(name))
            self._held[name] = (self._bucket.upload(self._key(name), self._local(name)), *stamp)

        self._each(path, push, names)

    def _delete(self, path: str, names: Iterable[str]) -> None:
        self._each(path, lambda name: self._bucket.delete(self._key(name)), names)

    def _each(self, path: str, work: Callable[[str], None], names: Iterable[str]) -> None:
        """Does something with every name, several at once."""
        uri = self._uri(path)
        with explained(self._bucket, uri), explained_disk(uri), ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, names))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
