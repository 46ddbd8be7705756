"""The annotation cache: every reply that was paid for, in append-only JSONL files, found by the content of its request.

Every process writes a file of its own and reads all files: a pod that is thought dead may still run beside the one that
replaced it. A line is on the disk before it counts.
"""

import logging
import os
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from attrloop.components.catalogue.records import Record
from attrloop.components.digests import digest
from attrloop.components.documents import Malformed, parse_json, text_of
from attrloop.components.errors import explained_disk
from attrloop.components.run import layout
from attrloop.components.storage.files import TEMPORARY, write_atomic
from attrloop.components.storage.store import Store

log = logging.getLogger(__name__)
CUT_OFF = "cut off"  # how `Paid.failed` begins if the reply had no room
_FILE = "replies.jsonl"
_ONCE = "cache.jsonl"  # the only file of workspaces that an earlier version made
_PACE = 5.0  # a killed pod loses the replies of at most so many seconds
_QUIET = 24 * 3600.0  # seconds since a file's last line after which no process writes to it: replies are minutes apart


class Answered(NamedTuple):
    """What a reply says of one attribute, and its part of the reply's cost in US dollars."""

    rationale: str
    value: str
    cost: float


class Paid(Record):
    """One reply that was paid for.

    Attributes:
        key: see `Request.key`.
        whole: where the request was for some attributes of the listing only: the key of the one for all; "" otherwise.
        listing: id of the listing that was asked about.
        answers: (rationale, canonical value) by attribute; None for an unusable reply.
        failed: why the reply is unusable, with an excerpt of it; "" otherwise.
        limit: most completion tokens that the reply could have; 0 in files of earlier versions.
        prompt_tokens: tokens that were read.
        completion_tokens: tokens that were written.
        cost: in US dollars.
        id: of the line, so that its copies count once; "" in files that are never copied.
        checksum: of the rest of the line; "" in files of earlier versions.
        forgotten: this line takes earlier lines of its key out of use, so that the next run asks again. Their cost
            still counts.
    """

    key: str
    whole: str = ""
    listing: str
    answers: dict[str, tuple[str, str]] | None = None
    failed: str = ""
    limit: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    id: str = ""
    checksum: str = ""
    forgotten: bool = False

    @property
    def by_attribute(self) -> dict[str, Answered]:
        """The answers; empty for an unusable reply."""
        return {
            attribute: Answered(rationale, value, self.cost / len(self.answers or {}))
            for attribute, (rationale, value) in (self.answers or {}).items()
        }


class Cache:
    """Replies by key. Safe to use from several threads.

    A damaged line is named in the log and left out, and its request is sent again. What it has cost is not known: it
    counts as much as the dearest reply. A half-written last line, which a kill leaves, is ignored.

    Args:
        store: the workspace's store. It gets the replies every few seconds, and at the end.

    Attributes:
        path: the file of this process; it is created with the first reply.
        calls: requests that were ever paid for.
        spent: what they cost together, in US dollars.
        dearest: what the dearest of them cost, in US dollars.
        prompt_tokens: tokens that were read for them.
        completion_tokens: tokens that were written for them.
        damaged: lines that were left out.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._kept = store, time.monotonic()
        self.calls, self.spent, self.dearest, self.damaged = 0, 0.0, 0.0, 0
        self.prompt_tokens, self.completion_tokens = 0, 0
        self._rows: dict[str, Paid] = {}
        self._keys: dict[str, set[str]] = defaultdict(set)  # of the rows, by that of the request for all attributes
        self._lock = Lock()
        self._file: BinaryIO | None = None
        folder = store.folder(layout.ANNOTATE_CACHE)
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
        self.calls += self.damaged
        self.spent += self.damaged * self.dearest

    def _load(self, file: Path, seen: set[str]) -> None:
        for number, line in enumerate(_whole_lines(file).split(b"\n")[:-1], 1):
            row = _read(line)
            if row is None:
                log.warning("%s:%d: a damaged line in the annotation cache; its request is sent again", file, number)
                self.damaged += 1
                continue
            if row.id not in seen:
                self._take(row)
            seen |= {row.id} - {""}

    def _take(self, row: Paid) -> None:
        if row.forgotten:
            self._rows.pop(row.key, None)
            return
        self._rows[row.key] = row
        self._keys[row.whole or row.key].add(row.key)
        self.calls += 1
        self.spent += row.cost
        self.dearest = max(self.dearest, row.cost)
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens

    def get(self, key: str, limit: int = 0) -> Paid | None:
        """The reply to a request, if there is one. A reply that was cut off does not count if it may be longer now.

        Args:
            key: see `Request.key`.
            limit: see `Request.max_tokens`.
        """
        found = self._rows.get(key)
        short = found is not None and found.failed.startswith(CUT_OFF) and found.limit < limit
        return None if short else found

    def answers(self, whole: str) -> dict[str, Answered]:
        """What is known of a listing by attribute, from all requests about it.

        Args:
            whole: the key of the request for all its attributes.
        """
        rows = [row for key in sorted(self._keys.get(whole, ())) if (row := self._rows.get(key))]
        return {attribute: answer for row in rows for attribute, answer in row.by_attribute.items()}

    def add(self, row: Paid) -> None:
        """Appends a row and waits until it is on the disk.

        Raises:
            InputError: the disk is full.
        """
        row = row.model_copy(update={"id": uuid4().hex})
        row = row.model_copy(update={"checksum": _checksum(row.model_dump(mode="json"))})
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
        """Makes the next run send this request again."""
        self.add(Paid(key=row.key, whole=row.whole, listing=row.listing, forgotten=True))

    def close(self) -> None:
        """Keeps this process's replies, and merges the files of processes that ended long ago.

        It merges the oldest files, up to the first that may still be written to. So lines keep their order, which
        matters because a line can take earlier ones out of use.
        """
        with suppress(OSError):  # `add` has reported what could not be written
            if self._file is not None:
                self._file.close()
        self._keep(self.path)
        quiet = [file for file in self._quiet if file.is_file()]  # another process may have merged some
        *old, newest = quiet or [self.path]
        if old:
            write_atomic(newest, b"".join(self._quiet[file] for file in (*old, newest)))
            self._keep(newest)
        for file in old:
            self._store.remove(f"{layout.ANNOTATE_CACHE}/{file.parent.name}")

    def _keep(self, file: Path) -> None:
        if file.is_file():
            self._store.keep(f"{layout.ANNOTATE_CACHE}/{file.parent.name}/{_FILE}")


def this_process() -> str:
    """A name that no other process has. Names sort by time, because a line can take earlier ones out of use."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}"


def _read(line: bytes) -> Paid | None:
    """The row of a line; None for a damaged line."""
    try:
        raw = parse_json(text_of(line))
        row = Paid.model_validate(raw)
    except (Malformed, ValidationError):
        return None
    return row if row.checksum in ("", _checksum(raw)) else None


def _checksum(raw: dict[str, Any]) -> str:
    return digest({name: value for name, value in raw.items() if name != "checksum"})


def _whole_lines(file: Path) -> bytes:
    data = file.read_bytes()
    return data[: data.rfind(b"\n") + 1]
