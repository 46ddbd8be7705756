"""What a run reads and did not make: config, schema, listings, labels, images. Each is a local path or a `gs://` URI.

What comes from a bucket lies in a local cache under the digest that the bucket knows it by, so that the same content is fetched once on a
machine. Within one process a URI keeps the content that it had when it was first looked at.
"""

import os
import posixpath
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from attrloop.components.digests import digest
from attrloop.components.errors import fail
from attrloop.components.storage.files import cache_folder
from attrloop.components.storage.store import SCHEME

_ROOM = 50 * 10**9  # bytes: above it what was not used for the longest time goes
_SAFE_AGE = 24 * 3600  # seconds: what was used since may be in use


class _Found(NamedTuple):
    """What is known of an object; small, for there is one per image."""

    size: int
    generation: int
    digest: str
    brought: bool = False  # into the cache by this process


_seen: dict[str, _Found | None] = {}


def join(base: str, reference: str) -> str:
    """A reference as seen from a folder; absolute paths and URIs stay as they are. Nothing in a bucket refers to a local file."""
    if "://" in reference or not base.startswith(SCHEME):
        return reference if "://" in reference else os.path.join(base, reference)
    bucket, _, folder = base.removeprefix(SCHEME).partition("/")
    return f"{SCHEME}{bucket}{posixpath.normpath(posixpath.join('/', folder, reference))}"


def absolute(path: str | Path) -> str:
    """A local path from the root on; a URI stays as it is."""
    return str(path) if "://" in str(path) else os.path.abspath(path)


def parent(path: str) -> str:
    """The folder of a file."""
    return path.rpartition("/")[0] if "://" in path else os.path.dirname(path)


def exists(path: str | Path) -> bool:
    """Whether there is such a file."""
    return size(path) is not None


def size(path: str | Path) -> int | None:
    """Bytes of a file; None when there is none.

    Raises:
        InputError: a scheme that is not read.
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    if not _remote(path):
        return os.stat(path).st_size if os.path.isfile(path) else None
    found = _look([str(path)])[str(path)]
    return None if found is None else found.size


def local(path: str | Path) -> Path:
    """A local file with the content, to read from; its suffix is that of the path.

    Raises:
        InputError: no such file, or a scheme that is not read.
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    if size(path) is None:
        raise fail(str(path), "no such file", "Correct the path")
    if not _remote(path):
        return Path(path)
    _download([str(path)])
    return _target(str(path))


def read(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        InputError, AttrloopError: as `local`.
    """
    while True:
        with suppress(FileNotFoundError):  # another process that shares the cache has let go of it
            return local(path).read_bytes()


def text(path: str | Path) -> str:
    """The content of a UTF-8 file.

    Raises:
        InputError: in another encoding; and as `local`.
        AttrloopError: as `local`.
    """
    try:
        return read(path).decode()
    except UnicodeDecodeError as error:
        raise fail(str(path), f"not UTF-8 text (byte {error.start})", "Save the file as UTF-8") from error


def fetch(paths: Iterable[str], most: int) -> None:
    """Brings many files into the cache at once; those that are missing or larger than `most` bytes are left to whoever asks for them.

    Raises:
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    found = _look([path for path in paths if _remote(path)])
    _download([uri for uri, entry in found.items() if entry is not None and entry.size <= most])


def forget(uris: Iterable[str]) -> None:
    """Drops what is known of objects and what this process has brought of them, so that neither memory nor disk grows; who wants one again gets it again."""
    for uri in uris:
        if (found := _seen.get(uri)) is not None and found.brought:
            _target(uri).unlink(missing_ok=True)
        _seen.pop(uri, None)


def _remote(path: str | Path) -> bool:
    text = str(path)
    if "://" in text and not text.startswith(SCHEME):
        raise fail(text, f"{text.partition('://')[0]!r} is not read", "Give a local path or gs://<bucket>/<path>")
    return text.startswith(SCHEME)


def _look(uris: list[str]) -> dict[str, _Found | None]:
    new = list(dict.fromkeys(uri for uri in uris if uri not in _seen))
    if new:
        from attrloop.components.storage.gcs import WORKERS, bucket_of, explained, split

        def look(uri: str) -> _Found | None:
            with explained(uri):
                blob = bucket_of(uri).get_blob(split(uri)[1])
            if blob is None:
                return None
            # An object that was composed of others has no MD5.
            return _Found(
                blob.size, blob.generation, digest(blob.md5_hash or f"{blob.crc32c}-{blob.size}-{blob.generation}")
            )

        with ThreadPoolExecutor(WORKERS) as pool:
            _seen.update(zip(new, pool.map(look, new), strict=True))
    return {uri: _seen[uri] for uri in uris}


def _target(uri: str) -> Path:
    found = _seen[uri]
    assert found is not None
    return cached() / f"{found.digest}{posixpath.splitext(uri)[1]}"


def cached() -> Path:
    """The folder of the cache.

    Raises:
        InputError: it cannot be written.
    """
    return _ready(cache_folder() / "inputs")


@cache
def _ready(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _trim(folder)
    except OSError as error:
        raise fail(
            str(folder), f"the cache cannot be written ({error.strerror})", "Set ATTRLOOP_CACHE to a folder that can"
        ) from error
    return folder


def _trim(folder: Path) -> None:
    found: list[tuple[float, int, Path]] = []
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process has renamed or removed it since
            known = file.stat()
            found.append((known.st_mtime, known.st_size, file))
    found.sort()
    total = sum(size for _, size, _ in found)
    for used, bytes_, file in found:
        if total <= _ROOM or used > time.time() - _SAFE_AGE:
            break
        file.unlink(missing_ok=True)
        total -= bytes_


def _download(uris: list[str]) -> None:
    absent = {}
    for target, uri in {_target(uri): uri for uri in uris}.items():
        try:
            os.utime(target)
        except FileNotFoundError:
            absent[target] = uri
    if not absent:
        return
    from attrloop.components.storage.gcs import bucket_of, download, split

    names = {target.with_name(f"{target.name}.{uuid.uuid4().hex}"): target for target in absent}
    found = {name: (absent[target], _seen[absent[target]]) for name, target in names.items()}
    blobs = {
        name: bucket_of(uri).blob(split(uri)[1], generation=entry.generation)
        for name, (uri, entry) in found.items()
        if entry
    }
    download(next(iter(absent.values())), blobs)
    for name, target in names.items():
        os.replace(name, target)
    _seen.update({uri: entry._replace(brought=True) for uri, entry in found.values() if entry})
