"""Gold that a comparison leaves out: an adapter or an ancestor has learnt from it, or from one of its photographs.

An adapter remembers what it has learnt from, and would look better on that than it is.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from attrloop.components.catalogue.records import GOLD_SPLITS, GoldSplit, Label, Record
from attrloop.components.gold.learnt import Learnt, Role, marks_of, record_of
from attrloop.components.gold.splits import ensure_splits, splits_of
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import has, intact, read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.store import Store

Reason = Literal["trained", "chosen", "photograph", "mixed"]
REASONS: dict[Reason, str] = {  # in the order of their weight: a listing has one reason
    "trained": "already trained on",
    "chosen": "already used to choose",
    "photograph": "sharing a photograph with a listing already learnt from",
    "mixed": "sharing a photograph with a listing of another split",
}
NEW_GOLD = "Label new listings, or train a new adapter with `attrloop run`"
# Test judges what validation has chosen: it must be new to both. Validation may choose more than once.
_ROLES: dict[str, tuple[Role, ...]] = {"test": ("trained", "chosen"), "validation": ("trained",)}
VERSION = 1  # of what is left out
_NAMED = 10  # listings that a summary names


class LeftOut(Record):
    """A gold listing that is left out of a comparison.

    Attributes:
        listing: its id.
        split: of the listing.
        reason: `trained` or `chosen`: a compared adapter or one of its ancestors was trained on it, or chosen by it.
            `photograph`: the same, but it shares a photograph with that listing. `mixed`: it shares a photograph with a
            listing of this run's catalogue that this run learns from.
        other: id of the listing that it shares the photograph with; "" for none.
    """

    listing: str
    split: GoldSplit
    reason: Reason
    other: str = ""


class Omission(BaseModel):
    """How much gold a comparison leaves out.

    Attributes:
        listings: how many.
        of: how many gold listings there are with them.
        reasons: how many for each reason.
        named: the first of them, by id.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    listings: int
    of: int
    reasons: dict[Reason, int]
    named: tuple[str, ...]

    @staticmethod
    def of_listings(left_out: Iterable[LeftOut], gold: int) -> "Omission":
        """Sums up what is left out of `gold` listings."""
        rows = sorted(left_out, key=lambda row: row.listing)
        counted = Counter(row.reason for row in rows)
        reasons = {reason: counted[reason] for reason in REASONS if counted[reason]}
        return Omission(listings=len(rows), of=gold, reasons=reasons, named=tuple(row.listing for row in rows[:_NAMED]))

    @property
    def text(self) -> str:
        """The same for people."""
        why = ", ".join(f"{count} {REASONS[reason]}" for reason, count in self.reasons.items())
        more = ", ..." if self.listings > len(self.named) else ""
        return f"{self.listings} of {self.of} gold listings are left out ({why}): {', '.join(self.named)}{more}"


def left_out(ws: Workspace) -> list[LeftOut]:
    """The gold listings of a run that none of its stages is judged by, found once for all steps.

    They are those that the adapter which the run starts from, or one of its ancestors, has learnt from, and those that
    share a photograph with a listing that this run learns from.
    """
    ensure_splits(ws)
    artifact = begin(ws)
    if artifact.manifest is not None:
        return recorded(ws.store)
    mixed = splits_of(ws).mixed
    start = record_of(ws.store, layout.adapter(layout.START)) if read_manifest(ws.store, layout.START) else None
    rows = []
    for split in GOLD_SPLITS:
        gold = {label.listing for label in ws.labels(split)}
        rows += learnt_from(ws, split, gold, start) if start else []
        known = {row.listing for row in rows}
        rows += [
            LeftOut.model_validate({"listing": listing, "split": split, "reason": "mixed", "other": mixed[listing]})
            for listing in sorted(gold & mixed.keys() - known)
        ]
    text = "".join(row.model_dump_json() + "\n" for row in rows)
    write_atomic(artifact.folder / layout.LISTINGS_FILE, text.encode())
    counts = {split: float(sum(row.split == split for row in rows)) for split in GOLD_SPLITS}
    artifact.finish("left-out", counts, [layout.LISTINGS_FILE])
    return rows


def begin(ws: Workspace) -> Artifact:
    """Opens the artifact of what is left out.

    Raises:
        InputError: the labels or the splits are not finished.
    """
    sources = {"labels": layout.ANNOTATE, "splits": layout.SPLITS}
    made_from = MadeFrom(VERSION, sources, {"start": layout.START}, reads=("catalogue", "photographs"))
    return Artifact.begin(ws, layout.LEFT_OUT, made_from)


def recorded(store: Store) -> list[LeftOut]:
    """What a run has found to be left out; empty where it has not looked yet."""
    path = layout.LEFT_OUT_FILE
    lines = intact(store, path).read_text(encoding="utf-8").splitlines() if has(store, path) else []
    return [LeftOut.model_validate_json(line) for line in lines]


def learnt_from(ws: Workspace, split: str, gold: Iterable[str], record: Learnt) -> list[LeftOut]:
    """Those of a run's gold listings that an adapter or an ancestor has learnt from, sorted by id.

    Args:
        ws: the run's workspace.
        split: of the listings.
        gold: their ids.
        record: the adapter's.
    """
    matches = record.matches(marks_of(ws, gold)).filter(pl.col("role").is_in(_ROLES[split]))
    found: dict[str, LeftOut] = {}
    for listing, role, other in matches.iter_rows():
        same = listing == other
        row = LeftOut.model_validate(
            {
                "listing": listing,
                "split": split,
                "reason": role if same else "photograph",
                "other": "" if same else other,
            }
        )
        order = list(REASONS).index
        if listing not in found or order(row.reason) < order(found[listing].reason):
            found[listing] = row
    return [found[listing] for listing in sorted(found)]


def judged_by(ws: Workspace, split: str) -> list[Label]:
    """The gold labels of a split that a run's stages are judged by: all but those left out."""
    out = {row.listing for row in left_out(ws) if row.split == split}
    return [label for label in ws.labels(split) if label.listing not in out]


def no_gold(ws: Workspace, split: GoldSplit) -> tuple[str, str]:
    """Why a run has no gold of a split to judge by, and what to do."""
    if omission := omissions(ws).get(split):
        return f"{omission.text} (all in {layout.LEFT_OUT_FILE})", NEW_GOLD
    if not getattr(ws.config.annotate, setting := f"{split}_per_vertical"):
        return f"no labels of split {split!r}", f"Set annotate.{setting} above 0"
    count = sum(of == split for of in splits_of(ws).of.values())
    if not count:
        return f"no listing is of split {split!r}", f"Add listings, or give labels with split: {split}"
    what = f"none of the {count:,} listings of split {split!r} has a label that may be gold"
    return what, f"Give labels with split: {split}, or let the annotator label more (annotate.max_calls)"


def omissions(ws: Workspace) -> dict[str, Omission]:
    """What a run leaves out, by split; only splits with something left out."""
    rows = recorded(ws.store)
    found = {}
    for split in GOLD_SPLITS:
        if out := [row for row in rows if row.split == split]:
            found[split] = Omission.of_listings(out, len({label.listing for label in ws.labels(split)}))
    return found
