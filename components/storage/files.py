"""Local files, written in one step: readers see the old content or the new, never a part."""

import os
import tempfile
from pathlib import Path

from attrloop.components.errors import explained_disk

TEMPORARY = ".tmp-"  # how the names of files begin that are not finished


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
