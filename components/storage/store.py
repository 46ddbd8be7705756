"""`Store`: the files of a workspace by path, wherever they lie. Every write is atomic."""

from pathlib import Path
from typing import NamedTuple, Protocol

from attrloop.components.errors import Problem

MANIFEST = "manifest.json"  # written when an artifact is finished
INPUTS = "inputs.json"  # written when an artifact is begun: partial work is continued only from the same inputs


class Stamp(NamedTuple):
    """What a store knows of a file without reading it.

    Attributes:
        size: in bytes.
        version: changes when the file is written again.
    """

    size: int
    version: str


class Store(Protocol):
    """Files by '/'-separated path below a root URI. Every method is safe to repeat.

    Attributes:
        root: the URI.
        home: a local folder for what can be computed again and is never stored; whoever uses it makes it.

    Raises:
        InputError: a file that is not there.
        AttrloopError: a store that cannot be reached, or may not be read or written.
    """

    root: str
    home: Path

    def exists(self, path: str) -> bool:
        """Whether there is a file."""

    def read(self, path: str) -> bytes:
        """The content of a file."""

    def write(self, path: str, data: bytes) -> None:
        """Atomically creates or replaces a file."""

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file unless it exists; False when it does. Of several concurrent callers exactly one gets True."""

    def remove(self, prefix: str) -> None:
        """Removes a folder with all in it; no error when there is none."""

    def file(self, path: str) -> Path:
        """A local file with the content of the stored one, to read from."""

    def folder(self, path: str) -> Path:
        """A local folder with the files of the stored one, to read from and work in. At first it holds nothing else."""

    def keep(self, path: str) -> None:
        """Makes a file or folder that was written below `folder(...)` durable: the stored one becomes equal to it.

        Files that are gone from a folder are removed. Another process sees a folder as a whole or not at all.
        """

    def check(self) -> list[Problem]:
        """What will keep a run from writing here, as far as can be told without writing."""

    def stamps(self, prefix: str) -> dict[str, Stamp]:
        """What is known of all files below a folder, by path."""

    def list(self, prefix: str) -> list[str]:
        """Paths of all files below a folder, sorted."""
