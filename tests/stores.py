"""Stores of every kind, as several pods see them."""

from collections.abc import Callable
from pathlib import Path

from attrloop.components.run.artifact import Artifact
from attrloop.components.run.manifest import read_manifest
from attrloop.components.storage.store import MANIFEST, Store

Pod = Callable[[], Store]  # opens the same root as each pod does for itself


def finish_again(store: Store, path: str) -> None:
    """Finishes an artifact of a local store whose files a test has changed or removed."""
    manifest = read_manifest(store, path)
    assert manifest is not None
    Path(store.root, path, MANIFEST).unlink()
    artifact = Artifact(store, path, manifest.made_from)
    there = [name for name in manifest.files if (artifact.folder / name).exists()]
    notes = {name.split("/")[0] for name in manifest.members} - set(manifest.files)
    artifact.finish(manifest.kind, manifest.counts, there, notes)


def contents(folder: Path) -> dict[str, bytes]:
    """What the files below a folder hold, by path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
