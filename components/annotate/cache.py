"""The annotation cache: append-only JSONL files of everything that was paid for, by content; each line is on the disk before it counts.

Every process writes a file of its own and reads all: a pod that is thought dead may go on beside the one that took its place.
"""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from uuid import uuid4

from pydantic import ValidationError

from attrloop.components.catalogue.records import Record
from attrloop.components.errors import explained_disk, fail
from attrloop.components.storage.files import TEMPORARY, write_atomic
from attrloop.components.storage.store import Store

# Beside the stage's folder, which is emptied when its inputs change: what was paid for must outlive a raised budget.
CACHE, _FILE = "annotate-cache", "replies.jsonl"
_ONCE = "cache.jsonl"  # the one file of workspaces that were made before
_PACE = 5.0  # seconds of replies that a killed pod loses at most
_QUIET = (
    24 * 3600.0
)  # seconds after the last line of a file when nobody writes to it any more: replies are minutes apart


class Paid(Record):
    """One reply that was paid for.

    Attributes:
        key: see `Request.key`.
        answers: (rationale, canonical value) by attribute; None for an unusable reply.
        failed: why it is unusable, with an excerpt; "" otherwise.
        cost: in US dollars.
        id: of the line, so that copies of it count once; "" in files that are never copied.
        forgotten: takes earlier lines of this key out of use, so that the next run asks again; what they cost still counts.
    """

    key: str
    listing: str
    answers: dict[str, tuple[str, str]] | None = None
    failed: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    id: str = ""
    forgotten: bool = False


class Cache:
    """Replies by key. Safe to use from several threads.

    Args:
        store: of the workspace; replies are made durable there every few seconds, and at the end.

    Attributes:
        path: the file of this process, made with its first reply.
        calls: requests that were ever paid for.
        spent: what they cost together, in US dollars.
        dearest: the highest cost of one request, in US dollars.

    Raises:
        InputError: a damaged line other than a half-written last one, which a kill leaves.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._kept = store, time.monotonic()
        self.calls, self.spent, self.dearest = 0, 0.0, 0.0
        self.prompt_tokens, self.completion_tokens = 0, 0
        self._rows: dict[str, Paid] = {}
        self._lock = Lock()
        self._file: BinaryIO | None = None
        folder = store.folder(CACHE)
        self.path = folder / this_process() / _FILE
        files = [
            file
            for file in sorted(folder.glob(f"*/{_FILE}"))
            if file.is_file() and not file.parent.name.startswith(TEMPORARY)
        ]
        self._quiet = {
            file: _whole_lines(file)
            for file in takewhile(lambda file: time.time() - file.stat().st_mtime > _QUIET, files)
        }
        seen: set[str] = set()
        for file in [folder / _ONCE, *files] if (folder / _ONCE).is_file() else files:
            self._load(file, seen)

    def _load(self, file: Path, seen: set[str]) -> None:
        for number, line in enumerate(_whole_lines(file).splitlines(), 1):
            try:
                row = Paid.model_validate_json(line)
            except ValidationError as error:
                raise fail(
                    f"{file}:{number}",
                    "a damaged line in the annotation cache",
                    "Remove the line; its request is then made again",
                ) from error
            if row.id not in seen:
                self._take(row)
            seen |= {row.id} - {""}

    def _take(self, row: Paid) -> None:
        if row.forgotten:
            self._rows.pop(row.key, None)
            return
        self._rows[row.key] = row
        self.calls += 1
        self.spent += row.cost
        self.dearest = max(self.dearest, row.cost)
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens

    def get(self, key: str) -> Paid | None:
        return self._rows.get(key)

    def add(self, row: Paid) -> None:
        """Appends a row and waits until it is on the disk."""
        row = row.model_copy(update={"id": uuid4().hex})
        with self._lock, explained_disk(str(self.path)):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab")
            self._file.write(row.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._take(row)
            if time.monotonic() - self._kept > _PACE:
                self._keep(self.path)
                self._kept = time.monotonic()

    def forget(self, row: Paid) -> None:
        """The next run makes this request again."""
        self.add(Paid(key=row.key, listing=row.listing, forgotten=True))

    def close(self) -> None:
        """Keeps this process's replies, and makes one file of those of processes that are long gone, which would else be ever more.

        The oldest files alone, up to the first that may still be written to: the order of lines stays, for a line may take earlier ones out of use.
        """
        with suppress(OSError):  # what could not be written was told by `add`
            if self._file is not None:
                self._file.close()
        self._keep(self.path)
        *old, newest = [file for file in self._quiet if file.is_file()] or [
            self.path
        ]  # else another process was faster
        if old:
            write_atomic(newest, b"".join(self._quiet[file] for file in (*old, newest)))
            self._keep(newest)
        for file in old:
            self._store.remove(f"{CACHE}/{file.parent.name}")

    def _keep(self, file: Path) -> None:
        if file.is_file():
            self._store.keep(f"{CACHE}/{file.parent.name}/{_FILE}")


def this_process() -> str:
    """A name that no other process has; sorted by time, for a line may forget earlier ones."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}"


def _whole_lines(file: Path) -> bytes:
    data = file.read_bytes()
    return data[: data.rfind(b"\n") + 1]
