"""Where artifacts live: a `Store` of files by path. Writes are atomic (a temporary name, then rename or link)."""

from pathlib import Path
from typing import Protocol

from attrloop.components.errors import Problem, fail

SCHEME = "gs://"
MANIFEST = "manifest.json"
INPUTS = "inputs.json"  # written when a stage begins: partial work is continued only with the same inputs


class Store(Protocol):
    """Files by '/'-separated path below a root URI; every method is safe to repeat.

    Attributes:
        root: the URI.
        home: a local folder, made by whoever uses it, for what can be computed again and is never stored.

    Raises:
        InputError: a file that is not there.
        AttrloopError: a store that cannot be reached, or may not be read or written.
    """

    root: str
    home: Path

    def exists(self, path: str) -> bool:
        """Whether there is a file."""

    def read(self, path: str) -> bytes: ...
    def write(self, path: str, data: bytes) -> None:
        """Atomically creates or replaces a file."""

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file unless it exists; False when it does. Of several concurrent callers exactly one gets True."""

    def remove(self, prefix: str) -> None:
        """Removes a folder with all in it; no error when there is none."""

    def file(self, path: str) -> Path:
        """A local file with the content of the stored one, to read from."""

    def folder(self, path: str) -> Path:
        """A local folder with the files of the stored one, to read from and work in; nothing else is in it at first."""

    def keep(self, path: str) -> None:
        """Makes a file or folder that was written below `folder(...)` durable: what is stored is then what is there, also where files are gone.

        Another process sees a folder as a whole or not at all.
        """

    def check(self) -> list[Problem]:
        """What will keep a run from writing here, as far as can be told without writing."""

    def list(self, prefix: str) -> list[str]:
        """Paths of all files below a folder, sorted."""


def open_store(uri: str | Path) -> Store:
    """The store at a root: a local path, or `gs://<bucket>/<path>`.

    Raises:
        InputError: for a scheme that is not supported.
    """
    text = str(uri)
    if "://" not in text:
        from attrloop.components.storage.local import LocalStore

        return LocalStore(text)
    if not text.startswith(SCHEME):
        raise fail(
            text, f"{text.partition('://')[0]!r} is not a kind of storage", "Give a local path or gs://<bucket>/<path>"
        )
    from attrloop.components.storage.gcs import GcsStore  # slow to import, and not needed on one machine

    return GcsStore(text)
