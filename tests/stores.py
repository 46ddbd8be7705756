"""Stores of every kind, as several pods see them."""

from collections.abc import Callable
from pathlib import Path

from attrloop.components.storage.store import Store

Pod = Callable[[], Store]  # opens the same root as each pod does for itself


def contents(folder: Path) -> dict[str, bytes]:
    """What the files below a folder hold, by path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
