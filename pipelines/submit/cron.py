"""Cron expressions as Kubeflow reads them: with robfig/cron version 1, whose first field is seconds."""

import re

from attrloop.components.errors import InputError, Problem, fail

_MONTHS, _DAYS = "jan feb mar apr may jun jul aug sep oct nov dec", "sun mon tue wed thu fri sat"
_FIELDS = (
    ("second", 0, 59, ""),
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day", 1, 31, ""),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 6, _DAYS),
)
_NAMED = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly|every (\d+(\.\d+)?(ms|[smh]))+)")
_RANGE = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?", re.ASCII)


def six_fields(cron: str) -> str:
    """A cron expression for Kubeflow: with seconds, or one like `@daily` or `@every 12h`.

    Raises:
        InputError: not five or six fields; each field with an impossible value.
    """
    where, fields = f"--cron '{cron}'", cron.split()
    if _NAMED.fullmatch(cron):
        return cron
    if len(fields) not in (5, 6):
        raise fail(
            where, "not a cron expression of five or six fields", "Give one like '0 6 * * 1', for Mondays at six"
        )
    fields = ["0"] * (len(fields) == 5) + fields
    problems = [
        Problem(
            where,
            f"{text!r} is not a valid {name}",
            f"Give {low} to {high}{f' or {names}' if names else ''}, ranges 1-3, steps */2, lists 1,3 of these, or *",
        )
        for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True)
        if not all(_fits(part, low, high, names.split()) for part in text.lower().split(","))
    ]
    if problems:
        raise InputError(problems)
    return " ".join(fields)


def _fits(part: str, low: int, high: int, names: list[str]) -> bool:
    if not (found := _RANGE.fullmatch(part)):
        return False
    first, last, step = found.groups()
    bounds = [
        low + names.index(end) if end in names else int(end) if end.isdecimal() else -1 for end in (first, last) if end
    ]
    return int(step or 1) > 0 and all(low <= end <= high for end in bounds) and bounds == sorted(bounds)
