"""What a run reads and did not make: config, schema, listings, labels, images. Each is a local path or a URI.

What comes from a bucket lies in a local cache under the bucket's digest of it, so a machine fetches the same content
once. Within one process a URI keeps the content that it had when it was first looked at.
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

from attrloop.components.documents import Malformed, text_of
from attrloop.components.errors import explained_disk, fail
from attrloop.components.storage.buckets import WORKERS, ObjectInfo, explained, in_bucket, locate, open_bucket, scheme
from attrloop.components.storage.files import cache_folder

_ROOM = 50 * 10**9  # bytes: a larger cache loses what was not used for the longest time
_SAFE_AGE = 24 * 3600  # seconds: what was used more recently may be in use


class _Seen(NamedTuple):
    """An object as it was first looked at, and whether this process brought it into the cache."""

    info: ObjectInfo
    brought: bool = False


_seen: dict[str, _Seen | None] = {}


def join(base: str, reference: str) -> str:
    """A reference as seen from a folder; absolute paths and URIs stay as they are.

    Nothing in a bucket refers to a local file.
    """
    if scheme(reference):
        return reference
    if not in_bucket(base):
        return os.path.join(base, reference)
    kind, bucket, folder = locate(base)
    return f"{kind}://{bucket}{posixpath.normpath(posixpath.join('/', folder, reference))}"


def absolute(path: str | Path) -> str:
    """The absolute path of a local file; a URI stays as it is."""
    return str(path) if scheme(path) else os.path.abspath(path)


def parent(path: str) -> str:
    """The folder of a file."""
    return path.rpartition("/")[0] if scheme(path) else os.path.dirname(path)


def exists(path: str | Path) -> bool:
    """Whether there is such a file."""
    return size(path) is not None


def size(path: str | Path) -> int | None:
    """Bytes of a file; None when there is none.

    Raises:
        InputError: the scheme is not supported.
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    if not scheme(path):
        return os.stat(path).st_size if os.path.isfile(path) else None
    found = look([str(path)])[str(path)]
    return None if found is None else found.info.size


def stamp(path: str | Path) -> str:
    """Changes when a file is replaced by another content.

    Raises:
        InputError: no such file, or the scheme is not supported.
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    if size(path) is None:
        raise fail(str(path), "no such file", "Correct the path")
    if scheme(path):
        return _info(str(path)).version
    found = os.stat(path)
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"


def local(path: str | Path) -> Path:
    """A local file with the content, to read from; it has the same suffix.

    Raises:
        InputError: no such file, or the scheme is not supported.
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    if size(path) is None:
        raise fail(str(path), "no such file", "Correct the path")
    if not scheme(path):
        return Path(path)
    _download([str(path)])
    return _target(str(path))


def read(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        InputError, AttrloopError: as `local`.
    """
    while True:
        with suppress(FileNotFoundError):  # another process that shares the cache has removed it
            return local(path).read_bytes()


def text(path: str | Path) -> str:
    """The content of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: the file has another encoding; and as `local`.
        AttrloopError: as `local`.
    """
    try:
        return text_of(read(path))
    except Malformed as error:
        raise error.problem(str(path)) from error


def fetch(paths: Iterable[str], most: int) -> None:
    """Brings many files into the cache at once, except those that are missing or larger than `most` bytes.

    Raises:
        AttrloopError: a bucket that may not be read or cannot be reached.
    """
    found = look([path for path in paths if scheme(path)])
    _download([uri for uri, entry in found.items() if entry is not None and entry.info.size <= most])


def forget(uris: Iterable[str]) -> None:
    """Drops what is known of objects and what this process has brought of them, so that neither memory nor disk grows.

    They can be read again, and are then fetched again.
    """
    for uri in uris:
        if (found := _seen.get(uri)) is not None and found.brought:
            _target(uri).unlink(missing_ok=True)
        _seen.pop(uri, None)


def look(uris: list[str]) -> dict[str, _Seen | None]:
    """What objects are like, asked for many at once. None where there is none. What is known is not asked for again.

    Raises:
        AttrloopError: a bucket that may not be read or cannot be reached.
    """

    def ask(uri: str) -> _Seen | None:
        bucket = open_bucket(uri)
        with explained(bucket, uri):
            found = bucket.look(locate(uri).key)
        return None if found is None else _Seen(found)

    new = list(dict.fromkeys(uri for uri in uris if uri not in _seen))
    if new:
        with ThreadPoolExecutor(WORKERS) as pool:
            _seen.update(zip(new, pool.map(ask, new), strict=True))
    return {uri: _seen[uri] for uri in uris}


def _info(uri: str) -> ObjectInfo:
    found = _seen[uri]
    assert found is not None
    return found.info


def _target(uri: str) -> Path:
    return cached() / f"{_info(uri).digest}{posixpath.splitext(uri)[1]}"


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
        what, remedy = f"the cache cannot be written ({error.strerror})", "Set ATTRLOOP_CACHE to a folder that can"
        raise fail(str(folder), what, remedy) from error
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
    """Brings objects that were looked at into the cache, unless their content is there."""

    def bring(target: Path, uri: str) -> None:
        temporary, bucket = target.with_name(f"{target.name}.{uuid.uuid4().hex}"), open_bucket(uri)
        try:
            with explained(bucket, uri), explained_disk(uri):
                bucket.download(locate(uri).key, _info(uri).version, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _seen[uri] = _Seen(_info(uri), brought=True)

    absent = {}
    for target, uri in {_target(uri): uri for uri in uris}.items():
        try:
            os.utime(target)
        except FileNotFoundError:
            absent[target] = uri
    if absent:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(bring, absent, absent.values()))
