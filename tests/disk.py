"""A disk without room."""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest

from attrloop.components.storage import files


@contextmanager
def full_disk(names: str = "*") -> Iterator[None]:
    """As long as the block lasts there is no room for files that are written in one step.

    Args:
        names: a glob pattern; files with other names find room. A file without room begins as a link to /dev/full.
    """
    unused = files._unused

    def full(target: Path) -> Path:
        temporary = unused(target)
        if fnmatch(target.name, names):
            temporary.symlink_to("/dev/full")
        return temporary

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_unused", full)
        yield
