"""A `Store` on the local file system, and what can be said of a local folder before it is used."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import override

from attrloop.components.errors import AttrloopError, InputError, Problem, fail
from attrloop.components.storage.files import TEMPORARY, flush, unfinished, write_atomic
from attrloop.components.storage.store import Stamp, Store


class LocalStore(Store):
    """A `Store` on the local file system: `folder` is the stored folder itself, so nothing is left to do for `keep`."""

    def __init__(self, root: str | Path) -> None:
        self.home = Path(root).absolute()
        self.root = str(self.home)

    def _at(self, path: str) -> Path:
        return Path(self.root, path)

    @override
    def exists(self, path: str) -> bool:
        return self._at(path).is_file()

    @override
    def read(self, path: str) -> bytes:
        with _explained(self._at(path)):
            return self._at(path).read_bytes()

    @override
    def write(self, path: str, data: bytes) -> None:
        with _explained(self._at(path)):
            write_atomic(self._at(path), data)

    @override
    def create(self, path: str, data: bytes) -> bool:
        target = self._at(path)
        with _explained(target), unfinished(target) as temporary:
            temporary.write_bytes(data)
            flush(temporary)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        return True

    @override
    def remove(self, prefix: str) -> None:
        folder = self._at(prefix)
        if not folder.is_dir():
            return
        with _explained(folder):  # renamed first: a kill in between leaves nothing that looks complete
            doomed = tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent)
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(folder, doomed)
        shutil.rmtree(doomed)

    @override
    def file(self, path: str) -> Path:
        if not self.exists(path):
            raise _absent(self._at(path))
        return self._at(path)

    @override
    def folder(self, path: str) -> Path:
        folder = self._at(path)
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @override
    def keep(self, path: str) -> None:
        pass

    @override
    def check(self) -> list[Problem]:
        return writable(self.home, "workspace")

    @override
    def stamps(self, prefix: str) -> dict[str, Stamp]:
        found = {}
        for path in self.list(prefix):
            with suppress(FileNotFoundError):  # another process has removed it since
                known = self._at(path).stat()
                found[path] = Stamp(known.st_size, str(known.st_mtime_ns))
        return found

    @override
    def list(self, prefix: str) -> list[str]:
        files = (file for file in self._at(prefix).rglob("*") if file.is_file())
        paths = (file.relative_to(self.root) for file in files)
        return sorted(str(path) for path in paths if not any(part.startswith(TEMPORARY) for part in path.parts))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise _absent(path) from error
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        remedy = "Change the permissions or choose another place"
        raise AttrloopError(str(Problem(str(path), f"cannot be used ({error.strerror})", remedy))) from error


def _absent(path: Path) -> InputError:
    return fail(str(path), "no such file", "Correct the path, or run the step that writes it")


def existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def writable(folder: Path, name: str) -> list[Problem]:
    """The problem, if any, that keeps a local folder from being made and written."""
    place = existing(folder)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return []
    what = "is not a folder" if not place.is_dir() else "cannot be written"
    return [Problem(f"{name} {folder}", f"{place} {what}", "Choose another place or change its permissions")]
