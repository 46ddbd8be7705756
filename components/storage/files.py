"""Local files that are written in one step: a reader sees the old content or the new one, never a part of it."""

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrloop.components.errors import explained_disk, fail
from attrloop.components.secrets import public

TEMPORARY = ".tmp-"  # prefix of the names of unfinished files
_URI = re.compile(r"([A-Za-z][\w+.-]+):/+")  # a Path has lost the second slash
_NAME = 255  # bytes that the name of a file may have


def cache_folder() -> Path:
    """The local folder for copies and for what can be computed again.

    It is ATTRLOOP_CACHE, or `attrloop` in the user's cache folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ATTRLOOP_CACHE") or Path(base, "attrloop")).absolute()


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Yields an unused name beside `target` to write a file to. A file that still has this name afterwards is removed.

    Raises:
        InputError: the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unused(target)
    try:
        with explained_disk(str(target)):
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a temporary name to write a file to, then flushes the file to the disk and renames it to `target`.

    Raises:
        InputError: the disk is full.
    """
    with unfinished(target) as temporary:
        yield temporary
        flush(temporary)
        os.replace(temporary, target)


def write_atomic(target: Path, data: bytes) -> None:
    """Creates or replaces a local file in one step.

    Raises:
        InputError: the disk is full.
    """
    with replacing(target) as temporary:
        temporary.write_bytes(data)


def flush(path: Path) -> None:
    """Waits until a file is on the disk, so that its name never stands for less than its content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _unused(target: Path) -> Path:
    return target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{target.name[-50:]}")  # ends alike, and is short enough


def check_output(target: Path, folder: bool = False) -> None:
    """Checks, before any work, whether an output that the user named can be written. Makes nothing.

    That folders above it are missing is no fault: they are made when it is written.

    Args:
        target: a path on this machine, as the user gave it.
        folder: whether it is a folder.

    Raises:
        InputError: it is a URI; there is a folder instead of a file, or a file instead of a folder; it may not be
            written; or a name is too long.
    """
    remedy = f"Give another {'folder' if folder else 'file'}"
    if uri := _URI.match(str(target)):
        where = public(f"{uri[1]}://{str(target)[uri.end() :]}")
        raise fail(where, "output is written on this machine, not to a URI", "Give a path, and copy it afterwards")
    if any(len(os.fsencode(part)) > _NAME for part in target.parts):
        raise fail(str(target), "a name is too long", remedy)
    absolute = target.absolute()
    there = next(path for path in (absolute, *absolute.parents) if os.path.lexists(path))
    if there == absolute and not folder:
        if there.is_dir():
            raise fail(str(target), "is a folder", remedy)
        there = there.parent
    if not there.is_dir():
        raise fail(str(target), f"{there} is not a folder", remedy)
    if not os.access(there, os.W_OK | os.X_OK):
        raise fail(str(target), f"{there} may not be written", remedy)


@contextmanager
def explained_output(target: Path, folder: bool = False) -> Iterator[None]:
    """Turns an error of the file system into an `InputError` that names an output.

    Args:
        target: what is written.
        folder: whether it is a folder.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        what, remedy = f"cannot be written ({error.strerror})", f"Give another {'folder' if folder else 'file'}"
        raise fail(str(target), what, remedy) from error


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Only one process at a time is in this context. The lock of a killed process is free at once.

    Args:
        file: stands for the lock; it is made with its folder, and stays.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
