"""People's answers in Label Studio as labels."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Label
from attrloop.components.catalogue.schema import Attribute, Schema, load_schema
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.predict.exports import Asked, Given, read_tasks
from attrloop.components.predict.stream import listings
from attrloop.components.run.config import RunConfig
from attrloop.components.storage import inputs
from attrloop.components.storage.files import check_output, explained_output, write_atomic

_Key = tuple[str, str]  # a listing and an attribute
_Answer = tuple[str, Given, Asked]  # by its canonical value


class Reviewed(Label):
    """A label that a review gives.

    Attributes:
        vertical: of the listing, as it was asked about.
        truth: whether it was marked as the ground truth.
    """

    vertical: str = Field(exclude=True)
    truth: bool = Field(exclude=True)


@dataclass
class Imported:
    """What people answered.

    Attributes:
        labels: of the reviewed tasks.
        skipped: tasks without an answer.
        disputed: `listing/attribute` with different answers, which give no label.
        changed: `listing/attribute` whose label had another value before.
        unread: tasks and answers that cannot be read, and tasks of listings that are gone or of another vertical now.
    """

    labels: list[Reviewed] = field(default_factory=list)
    skipped: int = 0
    disputed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unread: list[Problem] = field(default_factory=list)


def import_labels(export: Path, config: RunConfig, output: Path) -> Imported:
    """Adds an export of Label Studio (JSON, JSON_MIN or CSV) to the labels in a file and those that the config names.

    Args:
        export: the exported file.
        config: with the schema, the listings that were predicted, and labels.
        output: the JSONL file to write, in the form of `data.labels`; may be the config's own labels file. Labels that
            it holds already stay.

    Raises:
        InputError: as `check_labels_output`, `read_export` and `add`.
    """
    check_labels_output(output)
    schema = load_schema(config.data.catalogue_schema)
    return add(read_export(export, schema), schema, config, output)


def check_labels_output(output: Path) -> None:
    """Checks, before any work, whether labels can be written to a file.

    Raises:
        InputError: its name does not end in `.jsonl`, and as `files.check_output`.
    """
    check_output(output)
    if output.suffix != ".jsonl":
        raise fail(str(output), "labels are written as JSON lines", "Give a file that ends in .jsonl")


def read_export(export: Path, schema: Schema) -> Imported:
    """The labels in an export of Label Studio.

    Raises:
        InputError: as `read_tasks` and `labels_of`.
    """
    problems: list[Problem] = []
    found = labels_of(read_tasks(export, problems), schema)
    found.unread = problems
    return found


def labels_of(tasks: list[Asked], schema: Schema) -> Imported:
    """The labels that answers give.

    A task that was imported into Label Studio twice counts as one. If some of its answers are marked as the ground
    truth, only those count. Different answers give no label, also those of one person: both stand in Label Studio.

    Raises:
        InputError: unknown attributes and values that are not on the list, all at once.
    """
    imported, problems = Imported(), list[Problem]()
    answers: dict[tuple[str, str, str], list[_Answer]] = defaultdict(list)
    for task in tasks:
        vertical = schema.verticals.get(task.vertical)
        attribute = vertical.attributes.get(task.attribute) if vertical else None
        if attribute is None:
            what = f"{task.vertical!r} has no attribute {task.attribute!r}"
            remedy = "Import with the schema that was predicted with, and only projects that attrloop exported"
            problems.append(Problem(task.where, what, remedy))
            continue
        imported.skipped += not task.given
        for given in task.given:
            # One text may hold several values, as a labels file has them.
            value = attribute.canonical(given.values[0] if len(given.values) == 1 else list(given.values))
            if value is None:
                problems.append(_off_list(task, given, attribute))
            else:
                answers[task.listing, task.attribute, task.vertical].append((value, given, task))
    if problems:
        raise InputError(problems)
    for (listing, name, _), found in answers.items():
        counted = [entry for entry in found if entry[1].truth] or found
        if len({value for value, _, _ in counted}) > 1:
            imported.disputed.append(f"{listing}/{name}")
        else:
            imported.labels.append(_label(counted))
    return imported


def _off_list(task: Asked, given: Given, attribute: Attribute) -> Problem:
    values, names = list(given.values), ", ".join(attribute.names)
    if len(values) > 1 and all(attribute.canonical(value) for value in values):
        what = f"{values} cannot be together as the answer to {task.attribute}"
        return Problem(task.where, what, "Correct it in Label Studio and export again")
    what = f"{values[0] if len(values) == 1 else values!r} is not a value of {task.attribute}"
    return Problem(task.where, what, f"Use one of: {names}; or add it to the schema")


def _label(answers: list[_Answer]) -> Reviewed:
    """The label of equal answers, by the person who answered last."""
    last = max((given for _, given, _ in answers), key=lambda given: given.at.timestamp() if given.at else 0)
    drawn = any(asked.part == "drawn" for _, _, asked in answers)
    value, given, task = answers[0]
    return Reviewed(
        listing=task.listing,
        attribute=task.attribute,
        vertical=task.vertical,
        truth=given.truth,
        value=value,
        source="human" if drawn else "review",
        reviewer=last.reviewer,
        reviewed_at=last.at,
    )


def add(found: Imported, schema: Schema, config: RunConfig, output: Path) -> Imported:
    """Adds reviewed labels to those in a file and those that the config names, and writes them all.

    - A confirmed label keeps its rationale, cost and split. One that is corrected keeps cost and split.
    - A label that was reviewed before is replaced only by a later answer of the same person, or by a ground truth. A
      different answer of someone else is a dispute: the label stays.

    Args:
        found: what was reviewed; gets the disputes with earlier reviews, the changes, and the listings that are gone
            or of another vertical now.
        schema: the catalogue's.
        config: with the listings that were predicted, and labels.
        output: the JSONL file to write. Its labels win over the config's.

    Raises:
        InputError: no reviewed listing is in the config's listings, a labels file that cannot be read, or an output
            that cannot be written.
    """
    merged = _labels_in(config.data.labels) if config.data.labels else {}
    if output.exists() and inputs.absolute(output) != inputs.absolute(config.data.labels):
        merged |= _labels_in(output)
    _leave_out_gone(found, schema, config)
    for new in found.labels:
        key, name = (new.listing, new.attribute), f"{new.listing}/{new.attribute}"
        old = merged.get(key)
        if old is None:
            merged[key] = new
        elif schema.attribute(new.vertical, new.attribute).canonical(old.value) == new.value:
            merged[key] = _confirmed(old, new)
        elif new.truth or _corrects(old, new):
            merged[key] = new.model_copy(update={"split": old.split, "cost": old.cost, "source": _source(old, new)})
            found.changed.append(name)
        elif not _outdated(old, new):
            found.disputed.append(name)
    rows = "".join(f"{label.model_dump_json(exclude_none=True)}\n" for label in merged.values())
    with explained_output(output):
        write_atomic(output, rows.encode())
    return found


def _labels_in(path: str | Path) -> dict[_Key, Label]:
    """The labels in a file as they are written there, also those of listings that are gone."""
    found: dict[_Key, Label] = {}
    problems = []
    for line, label in read_rows(path, Label):
        if found.setdefault((label.listing, label.attribute), label) != label:
            where = f"{path}:{line} (listing {label.listing})"
            problems.append(Problem(where, f"second label for {label.attribute}", "Keep one of them"))
    if problems:
        raise InputError(problems)
    return found


def _leave_out_gone(found: Imported, schema: Schema, config: RunConfig) -> None:
    """Takes labels of listings that are gone, or of another vertical now, out of `found`, and names them there."""
    wanted = {label.listing for label in found.labels}
    known = {row.id: row for row in listings(config.data.listings, schema) if row.id in wanted} if wanted else {}
    gone = sorted(wanted - set(known))
    remedy = "Name the listings that were predicted in data.listings"
    if gone and not known:
        where = f"{config.data.listings} (listing {gone[0]})"
        raise fail(where, f"{len(gone)} reviewed listings are not in {config.data.listings}", remedy)
    found.unread += [Problem(f"{config.data.listings} (listing {name})", "no such listing", remedy) for name in gone]
    kept = []
    for label in found.labels:
        if label.listing not in known:
            continue
        if (vertical := known[label.listing].vertical) == label.vertical:
            kept.append(label)
        else:
            where = f"{config.data.listings} (listing {label.listing})"
            what = f"its {label.attribute} was asked about as of a {label.vertical}, and it is a {vertical} now"
            found.unread.append(Problem(where, what, "Predict the listing again, and review that"))
    found.labels = kept


def _source(old: Label, new: Label) -> Literal["human", "review"]:
    """`review` only where nothing but the model's doubt chose the listing: what was drawn otherwise stays so."""
    return "review" if old.source == new.source == "review" else "human"


def _confirmed(old: Label, new: Label) -> Label:
    """A label that a review confirms, by the person who looked at it last."""
    later = old.reviewed_at and (new.reviewed_at is None or new.reviewed_at < old.reviewed_at)
    last = old if later else new
    kept = {"source": _source(old, new), "reviewer": last.reviewer, "reviewed_at": last.reviewed_at}
    return old.model_copy(update=kept)


def _corrects(old: Label, new: Label) -> bool:
    """Whether a different value replaces a label: one that nobody reviewed, or an earlier answer of the same person."""
    if old.source != "review" and old.reviewer is None and old.reviewed_at is None:
        return True
    later = old.reviewed_at is not None and new.reviewed_at is not None and new.reviewed_at > old.reviewed_at
    return later and old.reviewer is not None and old.reviewer == new.reviewer


def _outdated(old: Label, new: Label) -> bool:
    """Whether the same person has answered again since."""
    earlier = old.reviewed_at and new.reviewed_at and new.reviewed_at < old.reviewed_at
    return bool(earlier) and old.reviewer is not None and old.reviewer == new.reviewer
