"""Reads what Label Studio exports: JSON, JSON_MIN or CSV. What a task lacks is named, and the other tasks are read."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from attrloop.components.catalogue.records import QueuePart
from attrloop.components.documents import Malformed, parse_json, text_of
from attrloop.components.errors import Problem, fail
from attrloop.components.predict.interface import ANSWER

_FORMS = "Export the project from Label Studio as JSON, JSON_MIN or CSV"
_OWN = "Import only projects that attrloop made"
_AGAIN = "Answer the task again"
_KINDS = ("choices", "taxonomy", "rating", "number", "text")  # of answers, by the key that holds the value


@dataclass(frozen=True)
class Given:
    """One person's answer to a task.

    Attributes:
        values: as chosen.
        reviewer: the number or the e-mail address of the person; None if the export does not tell.
        at: when the answer was last changed; None if the export does not tell.
        truth: whether it is marked as the ground truth.
    """

    values: tuple[str, ...]
    reviewer: str | None = None
    at: datetime | None = None
    truth: bool = False


@dataclass
class Asked:
    """A task, and what people answered; skipped annotations are left out.

    Attributes:
        where: the file, the task and the listing, for messages.
        listing: its id.
        vertical: of the listing.
        attribute: that the task asks for.
        part: of the review queue.
        given: the answers.
    """

    where: str
    listing: str
    vertical: str
    attribute: str
    part: QueuePart
    given: list[Given] = field(default_factory=list)


class _UnreadableError(ValueError):
    """What is wrong with a task."""


def read_tasks(export: Path, problems: list[Problem]) -> list[Asked]:
    """The tasks of an exported file.

    Args:
        export: JSON, JSON_MIN or CSV. JSON_MIN and CSV have a row for each answer, and no ground truth.
        problems: tasks and answers that cannot be read are appended here and left out.

    Raises:
        InputError: no such file, not an export, or one without a column of answers.
    """
    try:
        text = text_of(export.read_bytes())
        rows = parse_json(text) if text.lstrip()[:1] in ("[", "{") else _csv(text)
    except OSError as error:
        raise fail(str(export), "no such file" if not export.exists() else str(error), _FORMS) from error
    except Malformed as error:
        where = f"{export}:{error.line}" if error.line else str(export)
        raise fail(where, error.what, f"{error.remedy}. {_FORMS}") from error
    except PolarsError as error:
        raise fail(str(export), f"not an export ({str(error).splitlines()[0]})", _FORMS) from error
    return tasks_of(rows, str(export), problems)


def tasks_of(rows: Any, name: str, problems: list[Problem]) -> list[Asked]:
    """The tasks of an export that is decoded already.

    Args:
        rows: a list of tasks with annotations (JSON), or a list of answers (JSON_MIN).
        name: of the export, for messages.
        problems: as `read_tasks`.

    Raises:
        InputError: not an export.
    """
    if not isinstance(rows, list) or (rows and not any(isinstance(row, dict) for row in rows)):
        raise fail(name, "not a list of tasks", _FORMS)
    columns = _columns(rows, name)
    found = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            problems.append(Problem(f"{name} (task number {number})", f"not a task but {str(row)[:80]!r}", _OWN))
            continue
        data = row.get("data") if _whole(row) else row
        where = f"{name} (task {row.get('id', f'number {number}')}"
        if isinstance(data, dict) and isinstance(data.get("listing"), str):
            where += f", listing {data['listing']}"
        where += ")"
        try:
            task = _asked(data, where)
        except _UnreadableError as error:
            problems.append(Problem(where, str(error), _OWN))
            continue
        before = len(problems)
        task.given += _annotations(row, where, problems) if _whole(row) else _answer(row, columns, where, problems)
        if task.given or len(problems) == before:
            found.append(task)
    return found


def _whole(row: Mapping[str, Any]) -> bool:
    """Whether a row is a task with its annotations (JSON), not an answer (JSON_MIN, CSV)."""
    return not {"data", "annotations", "completions"}.isdisjoint(row)


def _columns(rows: list[Any], name: str) -> set[str]:
    """The columns of the rows that have an answer, in JSON_MIN and CSV.

    Raises:
        InputError: there are such rows, and none has an answer: the question was renamed in the labelling interface.
    """
    answers = [row for row in rows if isinstance(row, dict) and not _whole(row) and "listing" in row]
    columns = {key for row in answers if ANSWER in row for key in row}
    if answers and not columns:
        there = ", ".join(str(key)[:40] for key in answers[0])
        what = f"has no column {ANSWER!r}, which holds the answers, only {there}"
        raise fail(name, what, f"Keep the name {ANSWER!r} in the labelling interface")
    return columns


def _csv(text: str) -> list[dict[str, Any]]:
    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    header = next(csv.reader(io.StringIO(text), delimiter=separator), [])
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise Malformed(f"has the column {twice[0]!r} twice", "Keep one of them")
    frame = pl.read_csv(io.BytesIO(text.encode()), separator=separator, infer_schema=False)
    if not {"listing", "attribute"} <= set(frame.columns):
        raise Malformed("has no columns listing and attribute", _OWN)
    rows = [row for row in frame.to_dicts() if any(row.values())]  # an empty line is no row
    for row in rows:
        answer = row.get(ANSWER)
        if answer and answer.startswith(("{", "[[", "[{", '["')):  # several values, or a taxonomy
            try:
                row[ANSWER] = parse_json(answer)
            except Malformed:
                continue  # a value that begins so
    return rows


def _asked(data: Any, where: str) -> Asked:
    if not isinstance(data, dict):
        raise _UnreadableError("it has no data, so it is not known what was asked")
    part: QueuePart = "drawn" if data.get("part") == "drawn" else "uncertain"
    return Asked(where, _text(data, "listing"), _text(data, "vertical"), _text(data, "attribute"), part)


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if value is None or value == "":
        raise _UnreadableError(f"its data has no {key}")
    if not isinstance(value, str):
        raise _UnreadableError(f"its {key} is {value!r}, which is not text")
    return value


def _annotations(task: Mapping[str, Any], where: str, problems: list[Problem]) -> Iterator[Given]:
    """The answers in a task of the form JSON."""
    annotations = task.get("annotations")
    if "annotations" not in task and task.get("completions"):
        problems.append(Problem(where, "its answers are completions, of a Label Studio before 1.0", _FORMS))
    elif not isinstance(annotations, list | None):
        problems.append(Problem(where, f"its annotations are {str(annotations)[:80]!r}, which is not a list", _FORMS))
        annotations = None
    for annotation in annotations or []:
        if not isinstance(annotation, dict):
            problems.append(Problem(where, f"an annotation is {annotation!r}", _FORMS))
        elif not _true(annotation.get("was_cancelled")):
            try:
                values = tuple(_of_results(annotation.get("result")))
            except _UnreadableError as error:
                problems.append(Problem(where, f"annotation {annotation.get('id')}: {error}", _AGAIN))
                continue
            if values:
                at = annotation.get("updated_at") or annotation.get("created_at")
                yield Given(
                    values, _person(annotation.get("completed_by")), _time(at), _true(annotation.get("ground_truth"))
                )


def _of_results(results: Any) -> Iterator[str]:
    """The values in an annotation: of all its results, once each."""
    if not isinstance(results, list | None):
        raise _UnreadableError(f"its result is {str(results)[:80]!r}, which is not a list")
    items = results or []
    if odd := [item for item in items if not isinstance(item, dict)]:
        raise _UnreadableError(f"a result is {str(odd[0])[:80]!r}")
    own = [item for item in items if item.get("from_name") == ANSWER]
    if items and not own:
        names = sorted({str(item.get("from_name")) for item in items})
        raise _UnreadableError(f"it has no result of {ANSWER!r}, only of {', '.join(names)}")
    yield from dict.fromkeys(value for item in own for value in _values(item.get("value", ...)))


def _answer(row: Mapping[str, Any], columns: set[str], where: str, problems: list[Problem]) -> list[Given]:
    """The answer in a row of the forms JSON_MIN and CSV, none where it is empty.

    Args:
        row: the row.
        columns: that the rows with an answer have; another one may hold this row's answer under another name.
        where: for messages.
        problems: an answer that cannot be read is appended here.
    """
    try:
        if ANSWER not in row and (other := [str(key)[:40] for key in row if key not in columns]):
            raise _UnreadableError(f"it has no {ANSWER!r}, only {', '.join(other)}")
        values = tuple(dict.fromkeys(_values(row.get(ANSWER))))
    except _UnreadableError as error:
        problems.append(Problem(where, str(error), _AGAIN))
        return []
    at = row.get("updated_at") or row.get("created_at")
    return [Given(values, _person(row.get("annotator")), _time(at))] if values else []


def _true(raw: Any) -> bool:
    """Whether a mark is set, also one that was written as text."""
    return raw is True or str(raw).strip().lower() in ("true", "1")


def _values(raw: Any) -> Iterator[str]:
    """Values in whatever a control of Label Studio answers with: choices, a taxonomy, a rating, a number, or text."""
    if isinstance(raw, dict):
        kind = next((kind for kind in _KINDS if kind in raw), None)
        if kind is None:
            raise _UnreadableError(f"an answer with {', '.join(map(str, raw)) or 'nothing in it'} cannot be read")
        raw = raw[kind]
    if raw is ...:
        raise _UnreadableError("its answer has no value")
    if isinstance(raw, list):
        for part in raw:
            # A list in a list is a path in a taxonomy: its last part is the value.
            path = isinstance(part, list) and part and all(isinstance(step, str) for step in part)
            yield from _values(part[-1] if path else part)
    elif isinstance(raw, bool) or not isinstance(raw, str | int | float | None):
        raise _UnreadableError(f"the answer {raw!r} cannot be read")
    elif raw is not None and raw != "":
        yield str(int(raw)) if isinstance(raw, float) and raw.is_integer() else str(raw)


def _person(raw: Any) -> str | None:
    if isinstance(raw, dict):
        raw = raw.get("email") or raw.get("id")
    return None if raw is None or raw == "" else str(raw)


def _time(raw: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(raw)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
