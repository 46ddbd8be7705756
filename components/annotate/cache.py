"""The annotation cache: an append-only JSONL file of everything that was paid for, by content; each line is on the disk before it counts."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from attrloop.components.shared.errors import explained_disk, fail
from attrloop.components.shared.records import Record

_PACE = 5.0  # seconds of replies that a killed pod loses at most


class Paid(Record):
    """One reply that was paid for.

    Attributes:
        key: see `Request.key`.
        answers: (rationale, canonical value) by attribute; None for an unusable reply.
        failed: why it is unusable, with an excerpt; "" otherwise.
        cost: in US dollars.
        forgotten: takes earlier lines of this key out of use, so that the next run asks again; what they cost still counts.
    """

    key: str
    listing: str
    answers: dict[str, tuple[str, str]] | None = None
    failed: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    forgotten: bool = False


class Cache:
    """Replies by key. Safe to use from several threads of one process.

    Args:
        path: the file.
        keep: called at most every few seconds once rows were added, and at the end: makes the file durable.

    Attributes:
        calls: requests that were ever paid for.
        spent: what they cost together, in US dollars.
        dearest: the highest cost of one request, in US dollars.

    Raises:
        InputError: a damaged line other than a half-written last one, which a kill leaves and which is cut off; a full disk.
    """

    def __init__(self, path: Path, keep: Callable[[], None] = lambda: None) -> None:
        self.path, self._keep, self._kept = path, keep, time.monotonic()
        self.calls, self.spent, self.dearest = 0, 0.0, 0.0
        self.prompt_tokens, self.completion_tokens = 0, 0
        self._rows: dict[str, Paid] = {}
        self._lock = Lock()
        if path.is_file():
            self._load()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def _load(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                self._take(Paid.model_validate_json(line))
            except ValidationError as error:
                raise fail(f"{self.path}:{number}", "a damaged line in the annotation cache", "Remove the line; its request is then made again") from error

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
        with self._lock, explained_disk(str(self.path)):
            self._file.write(row.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._take(row)
            if time.monotonic() - self._kept > _PACE:
                self._keep()
                self._kept = time.monotonic()

    def forget(self, row: Paid) -> None:
        """The next run makes this request again."""
        self.add(Paid(key=row.key, listing=row.listing, forgotten=True))

    def close(self) -> None:
        with suppress(OSError):  # what could not be written was told by `add`
            self._file.close()
        self._keep()
