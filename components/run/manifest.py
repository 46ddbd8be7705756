"""The manifest of a finished artifact, and the one way to read its files: as they were written, or not at all.

A manifest says what each file holds (a digest and a size), and has a digest of itself. A file is compared with its
manifest whenever it is read, once in a process. Opening an artifact compares all of its files: by content where they
are small together, by size and by the store's own version of them (a generation, an ETag, the time of the last change)
where they are large.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from attrloop.components.digests import digest, file_digest
from attrloop.components.documents import Malformed, parse_json, text_of
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.storage.store import MANIFEST, Store

SMALL = 256 * 10**6  # bytes: files that are no larger together are compared by content whenever they are intact
_REMEDY = "Remove this folder, then start the same command again: it is made again"
_NAMED = 5  # files that an error names
log = logging.getLogger(__name__)
_hashed: dict[tuple[str, int, int, int], str] = {}  # what this process has read: file -> digest


class DamagedError(InputError):
    """An artifact is not what was written.

    Attributes:
        artifact: its folder.
        what: what is wrong with it.
    """

    def __init__(self, artifact: str, what: str) -> None:
        self.artifact, self.what = artifact, f"damaged ({what})"
        super().__init__([Problem(artifact, self.what, _REMEDY)])


class Member(BaseModel):
    """A file of an artifact.

    Attributes:
        size: in bytes.
        digest: of its content.
        version: the store's, which changes when the file is written again (see `Stamp`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    size: int
    digest: str
    version: str


class Manifest(BaseModel):
    """The record of a finished artifact.

    Attributes:
        schema_version: of this record. Version 1 has neither `members` nor `seal`; it is read all the same.
        kind: what the artifact is, e.g. `pairs`.
        counts: how many of what, e.g. `{"pairs": 812}`.
        files: files and folders of the artifact that others build on.
        digest: of the content of `files`: what other artifacts are made from.
        made_from: a digest of every input, by name.
        members: every file that belongs to the artifact, by path: those of `files`, and notes that no other artifact is
            made from.
        seal: digest of all the rest.
    """

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 2
    kind: str
    counts: dict[str, float]
    files: list[str]
    digest: str
    made_from: dict[str, str]
    members: dict[str, Member] = {}
    seal: str = ""

    def sealed(self) -> "Manifest":
        """The same with its seal."""
        return self.model_copy(update={"seal": _seal(self.model_dump(mode="json"))})


def _seal(raw: dict[str, Any]) -> str:
    return digest({key: value for key, value in raw.items() if key != "seal"})


def read_manifest(store: Store, path: str) -> Manifest | None:
    """The manifest of a finished artifact; None when it is not finished. Its files are not looked at.

    Raises:
        DamagedError: the manifest cannot be read, or is not what was written.
    """
    name = f"{path}/{MANIFEST}".lstrip("/")
    if not store.exists(name):
        return None
    try:
        raw = parse_json(text_of(store.read(name)))
        manifest = Manifest.model_validate(raw)
    except Malformed as error:
        raise DamagedError(f"{store.root}/{path}", f"{MANIFEST} is {error.what}") from error
    except ValidationError as error:
        raise DamagedError(f"{store.root}/{path}", f"{MANIFEST} is no manifest") from error
    if manifest.schema_version != 1 and manifest.seal != _seal(raw):
        raise DamagedError(f"{store.root}/{path}", f"{MANIFEST} was changed")
    return manifest


def finished(store: Store, path: str) -> Manifest:
    """The manifest of an artifact.

    Raises:
        InputError: the artifact is not finished, or its manifest is damaged.
    """
    manifest = read_manifest(store, path)
    if manifest is None:
        raise fail(f"{store.root}/{path}", "not finished", "Let the step that makes it run to its end first")
    return manifest


def intact(store: Store, path: str) -> Path:
    """A local copy of a file or folder of a finished artifact, to read from. Its content is what its manifest says.

    Args:
        store: of the workspace.
        path: of the file or folder, directly in the artifact's folder.

    Raises:
        InputError: the artifact is not finished, or has no such file.
        DamagedError: the file, or one in the folder, is not what was written.
    """
    artifact, _, name = path.rpartition("/")
    manifest = finished(store, artifact)
    if manifest.schema_version == 1:
        verify(store, artifact, manifest)
        return store.folder(path) if store.list(path) else store.file(path)
    found = _members(manifest, name)
    if not found:
        raise fail(f"{store.root}/{path}", "no such file", "Let the step that makes it run to its end first")
    try:
        local = store.file(path) if name in found else store.folder(path)
    except InputError as error:
        raise DamagedError(f"{store.root}/{artifact}", f"{name} is missing") from error
    files = {member: (local / Path(member).relative_to(name), entry) for member, entry in found.items()}
    _compare(store, artifact, files)
    return local


def has(store: Store, path: str) -> bool:
    """Whether a finished artifact has this file or folder, damaged or not.

    Args:
        store: of the workspace.
        path: of the file or folder, directly in the artifact's folder.

    Raises:
        DamagedError: the artifact's manifest is not what was written.
    """
    artifact, _, name = path.rpartition("/")
    manifest = read_manifest(store, artifact)
    if manifest is None or manifest.schema_version != 1:
        return manifest is not None and bool(_members(manifest, name))
    return store.exists(path) or bool(store.list(path))


def _members(manifest: Manifest, name: str) -> dict[str, Member]:
    return {member: entry for member, entry in manifest.members.items() if f"{member}/".startswith(f"{name}/")}


def intact_files(store: Store, path: str) -> list[Path]:
    """Local copies of all `files` of a finished artifact, in order, as `intact`; for artifacts of many files.

    Raises:
        InputError: the artifact is not finished.
        DamagedError: a file is not what was written.
    """
    manifest, folder = finished(store, path), store.folder(path)
    if manifest.schema_version == 1:
        verify(store, path, manifest)
    else:
        _compare(store, path, {name: (folder / name, manifest.members[name]) for name in manifest.files})
    return [folder / name for name in manifest.files]


def verify(store: Store, path: str, manifest: Manifest) -> None:
    """Compares the files of an artifact with its manifest.

    Raises:
        DamagedError: a file is missing or is not what was written.
    """
    if manifest.schema_version == 1:
        folder = store.folder(path)
        if content_digest(folder, members_of(folder, manifest.files)) != manifest.digest:
            raise DamagedError(f"{store.root}/{path}", "its files are not what was written")
        return
    stamps = store.stamps(path)
    absent = [name for name in manifest.members if f"{path}/{name}" not in stamps]
    if absent:
        raise DamagedError(f"{store.root}/{path}", f"{_named(absent)} missing")
    changed = {
        name: member
        for name, member in manifest.members.items()
        if stamps[f"{path}/{name}"] != (member.size, member.version)
    }
    # A bucket keeps the content of an object as it was written, and reading it is not cheap.
    small = sum(member.size for member in manifest.members.values()) <= SMALL and "://" not in store.root
    if compared := manifest.members if small else changed:
        folder = store.folder(path)
        _compare(store, path, {name: (folder / name, member) for name, member in compared.items()})


def _compare(store: Store, path: str, files: dict[str, tuple[Path, Member]]) -> None:
    """Compares local files with what the manifest says of them."""
    wrong = [
        name
        for name, (file, member) in files.items()
        if not file.is_file() or file.stat().st_size != member.size or hashed(file) != member.digest
    ]
    if wrong:
        raise DamagedError(f"{store.root}/{path}", f"{_named(wrong)} not what was written")


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"


def hashed(file: Path) -> str:
    """Digest of a local file's content. A process reads a file for it once, unless the file changes."""
    found = file.stat()
    key = (str(file), found.st_ino, found.st_size, found.st_mtime_ns)
    if key not in _hashed:
        _hashed[key] = file_digest(file)
    return _hashed[key]


def members_of(folder: Path, names: Iterable[str]) -> list[Path]:
    """The files that some files and folders stand for, sorted."""
    places = (folder / name for name in names)
    found = (file for place in places for file in ([place] if place.is_file() else place.rglob("*")))
    return sorted(file for file in found if file.is_file())


def content_digest(folder: Path, files: Iterable[Path]) -> str:
    """Digest of the names and contents of files."""
    return digest([[str(file.relative_to(folder)), hashed(file)] for file in files])
