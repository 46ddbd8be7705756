"""The promotions ledger: one file for each entry, which never changes.

MLflow's aliases have no compare-and-set, so the ledger says who is champion and the alias only shows it.

Each entry has the digest of the one before, and a file of its number in `heads/` has its own. So an entry that is
missing, was changed or stands in another place is found whenever the ledger is read. Entries of earlier versions have
no such digest: they are read, and the first entry that has one protects the last of them. No file is ever replaced, so
a promoter needs the right to create files and no other.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrloop.components.digests import digest
from attrloop.components.documents import read_json
from attrloop.components.errors import InputError, fail
from attrloop.components.gold.left_out import Omission
from attrloop.components.results.comparison import Change
from attrloop.components.run import layout
from attrloop.components.storage.store import Store

_HEADS = "heads"  # folder of the digests of the entries, by number; that of the last one is compared
_REMEDY = (
    "Restore it from a backup. Where there is none, move this folder away and run attrloop rollback RUN --to VERSION, "
    "which begins a new ledger with that champion"
)


class Verdict(BaseModel):
    """What the gate says about a candidate.

    Attributes:
        passed: whether it becomes champion.
        reason: every rule that was broken, or that none was.
        against: what the candidate was compared with: `version <n>`, or a stage of its own run where there is no
            champion.
        macro: change of the macro accuracy; None where there was too little gold to compare.
        verticals: change of each vertical's accuracy.
        left_out: test gold that was not compared on (see `gold.left_out`).
        unknown: ancestors of the two whose history is unknown, because earlier versions registered them: gold may be
            compared on that they have learnt from. None where nothing was compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    passed: bool
    reason: str
    against: str
    macro: Change | None = None
    verticals: dict[str, Change] = Field(default_factory=dict)
    left_out: Omission | None = None
    unknown: tuple[str, ...] = ()


class Entry(BaseModel):
    """One decision.

    Attributes:
        seq: from 1, without gaps.
        model: name of the registered model.
        action: what was done.
        version: the model version that was judged, or that was rolled back to.
        before: the champion before; None for none. `from` in the file.
        after: the champion after; equal to `before` when the candidate was refused. `to` in the file.
        reason: why, for people.
        verdict: the gate's; None for a rollback.
        gate: digest of the gate's settings and of the data that it judged on; "" for a rollback.
        data_digest: digest of the data; "" for a rollback.
        git_sha: commit of the code; "" where it is unknown.
        actor: the person or account.
        time: UTC, ISO 8601.
        previous: digest of the file of the entry before; "" for the first; None in the entries of earlier versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)
    seq: int = Field(ge=1)
    model: str
    action: Literal["promote", "refuse", "rollback"]
    version: str
    before: str | None = Field(alias="from")
    after: str | None = Field(alias="to")
    reason: str
    verdict: Verdict | None = None
    gate: str = ""
    data_digest: str = ""
    git_sha: str = ""
    actor: str
    time: str
    previous: str | None = None


class Ledger:
    """The entries of one registered model, in `promotions/<model>/` of a store."""

    def __init__(self, store: Store, model: str) -> None:
        self.store, self.model = store, model
        self.folder = layout.promotions(model)
        self._read: list[tuple[Entry, str]] = []  # with the digest of its file; an entry is read once

    def entries(self) -> list[Entry]:
        """All entries, the oldest first.

        Raises:
            InputError: an entry is missing, empty, was changed, or stands in another place.
        """
        last, known = self._head()  # before the entries: another process may add one at any time
        read = list(self._read)  # other threads may be reading too
        paths = [path for path in self.store.list(self.folder) if path.endswith(".json")]
        for number, path in enumerate(paths, 1):
            if path != self._path(number):
                raise self._fault(number, "missing")
            if number > len(read):
                read.append(self._open(number, read[-1] if read else None))
        if len(paths) < max(len(read), last):
            raise self._fault(len(paths) + 1, "missing")
        if last and known != read[last - 1][1]:
            raise self._fault(last, f"not what was written: its digest is not that in {self._head_path(last)}")
        self._read = read
        return [entry for entry, _ in read]

    def head(self) -> Entry | None:
        """The latest entry; its `after` is the champion.

        Raises:
            InputError: as `entries`.
        """
        entries = self.entries()
        return entries[-1] if entries else None

    def append(self, entry: Entry) -> bool:
        """Adds an entry unless one with its number exists; False when another process was faster.

        Raises:
            InputError: as `entries`.
        """
        self.entries()
        previous = self._read[entry.seq - 2][1] if entry.seq > 1 else ""
        chained = entry.model_copy(update={"previous": previous})
        data = chained.model_dump_json(indent=1, by_alias=True).encode()
        if not self.store.create(self._path(entry.seq), data):
            return False
        self.store.create(self._head_path(entry.seq), digest(data).encode())
        return True

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:08d}.json"

    def _head_path(self, number: int) -> str:
        return f"{self.folder}/{_HEADS}/{number:08d}"

    def _open(self, number: int, last: tuple[Entry, str] | None) -> tuple[Entry, str]:
        """An entry and the digest of its file; `last` are those of the one before."""
        data = self.store.read(self._path(number))
        try:
            entry = Entry.model_validate(read_json(data, self._path(number)))
        except (InputError, ValidationError) as error:
            raise self._fault(number, "empty" if not data else "damaged: it cannot be read") from error
        before, previous = last or (None, "")
        if (entry.seq, entry.model) != (number, self.model):
            raise self._fault(number, f"not what was written: it is entry {entry.seq} of {entry.model}")
        if entry.previous is None and before and before.previous is not None:
            raise self._fault(number, "not what was written: it does not name the entry before")
        if entry.previous not in (None, previous):
            if not before:
                raise self._fault(number, "not what was written: entries before it are missing")
            raise self._fault(number - 1, f"not the one that entry {number} was written after")
        return entry, digest(data)

    def _head(self) -> tuple[int, str]:
        """The number of the last entry whose writer has left its digest, and that digest; 0 and "" for none."""
        names = [path.rpartition("/")[2] for path in self.store.list(f"{self.folder}/{_HEADS}")]
        last = max((int(name) for name in names if name.isdecimal()), default=0)
        return last, self.store.read(self._head_path(last)).decode(errors="replace") if last else ""

    def _fault(self, number: int, what: str) -> InputError:
        return fail(f"{self.store.root}/{self._path(number)}", f"this entry of the ledger is {what}", _REMEDY)
