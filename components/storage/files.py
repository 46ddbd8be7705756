"""Local files that are written in one step: a reader sees the old content or the new one, never a part of it."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrloop.components.errors import explained_disk

TEMPORARY = ".tmp-"  # prefix of the names of unfinished files


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
    return target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{target.name}")


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
