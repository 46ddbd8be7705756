"""The promotions ledger: one file for each entry, which never changes.

MLflow's aliases have no compare-and-set, so the ledger says who is champion and the alias only shows it.
"""

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from attrloop.components.gold.left_out import Omission
from attrloop.components.results.comparison import Change
from attrloop.components.storage.store import Store


class Verdict(BaseModel):
    """What the gate says about a candidate.

    Attributes:
        passed: whether it becomes champion.
        reason: every rule that was broken, or that none was.
        against: what the candidate was compared with: `version <n>`, or a stage of its own run where there is no
            champion.
        macro: change of the macro accuracy; None where there was too little gold to compare.
        verticals: change of each vertical's accuracy.
        left_out: test gold that was not compared on, because one of the two or an ancestor has learnt from it.
        unknown: ancestors of the two whose history is unknown, because earlier versions registered them: gold may be
            compared on that they have learnt from.
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
        """All entries, the oldest first."""
        return [self._read(path) for path in self._paths()]

    def head(self) -> Entry | None:
        """The latest entry; its `after` is the champion."""
        paths = self._paths()
        return self._read(paths[-1]) if paths else None

    def append(self, entry: Entry) -> bool:
        """Adds an entry unless one with its number exists; False when another process was faster."""
        return self.store.create(
            f"{self.folder}/{entry.seq:08d}.json", entry.model_dump_json(indent=1, by_alias=True).encode()
        )

    def _paths(self) -> list[str]:
        return [path for path in self.store.list(self.folder) if path.endswith(".json")]

    def _read(self, path: str) -> Entry:
        return Entry.model_validate_json(self.store.read(path))
