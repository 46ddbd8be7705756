"""The promotions ledger: one file an entry, never changed. MLflow's aliases have no compare-and-set, so the ledger says who is champion and the
alias only shows it."""

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from attrloop.components.storage.store import Store


class Change(BaseModel):
    """A difference of accuracies, candidate minus champion, in [-1, 1], with its bootstrap interval.

    Attributes:
        count: gold samples behind it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    delta: float
    low: float
    high: float
    count: int


class Verdict(BaseModel):
    """What the gate says of a candidate.

    Attributes:
        reason: every rule that was broken, or that none was.
        against: what the candidate was compared with: `version <n>`, or a stage of its own run where there is no champion.
        macro: None where too little gold allowed no comparison.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    passed: bool
    reason: str
    against: str
    macro: Change | None = None
    verticals: dict[str, Change] = Field(default_factory=dict)


class Entry(BaseModel):
    """One decision.

    Attributes:
        seq: from 1, without gaps.
        version: the model version that was judged, or that was rolled back to.
        before: champion before; None for none. `from` in the file.
        after: champion after; equal to `before` when the candidate was refused. `to` in the file.
        gate: digest of the gate's settings and of the data it judged on; "" for a rollback.
        time: UTC, ISO 8601.
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


class Ledger:
    """The entries of one registered model, in `promotions/<model>/` of a store."""

    def __init__(self, store: Store, model: str) -> None:
        self.store, self.model = store, model
        self.folder = f"promotions/{quote(model, safe=' ')}"

    def entries(self) -> list[Entry]:
        """All entries, the first first."""
        return [self._read(path) for path in self._paths()]

    def head(self) -> Entry | None:
        """The latest entry; its `after` is the champion."""
        paths = self._paths()
        return self._read(paths[-1]) if paths else None

    def append(self, entry: Entry) -> bool:
        """Adds an entry unless one of its number exists; False when somebody else was faster."""
        return self.store.create(
            f"{self.folder}/{entry.seq:08d}.json", entry.model_dump_json(indent=1, by_alias=True).encode()
        )

    def _paths(self) -> list[str]:
        return [path for path in self.store.list(self.folder) if path.endswith(".json")]

    def _read(self, path: str) -> Entry:
        return Entry.model_validate_json(self.store.read(path))
