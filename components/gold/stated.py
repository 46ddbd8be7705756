"""The splits that a labels file states."""

from collections import defaultdict
from pathlib import Path

from attrloop.components.catalogue.readers import read_rows
from attrloop.components.catalogue.records import Label, Split
from attrloop.components.errors import InputError, Problem


def stated_splits(labels: list[Label], path: str) -> dict[str, Split]:
    """The split of every listing whose labels name one.

    Raises:
        InputError: with every listing whose labels name different splits, and their lines.
    """
    named: dict[str, dict[Split, Label]] = defaultdict(dict)
    for label in labels:
        if label.split is not None:
            named[label.listing].setdefault(label.split, label)
    torn = {listing: found for listing, found in named.items() if len(found) > 1}
    if torn:
        lines = (
            {(row.listing, row.attribute): line for line, row in read_rows(path, Label, [])}
            if Path(path).is_file()
            else {}
        )
        raise InputError([_torn(path, listing, found, lines) for listing, found in torn.items()])
    return {listing: next(iter(found)) for listing, found in named.items()}


def _torn(path: str, listing: str, found: dict[Split, Label], lines: dict[tuple[str, str], int]) -> Problem:
    places = [(lines.get((label.listing, label.attribute), 0), split) for split, label in found.items()]
    what = "its labels name different splits: " + ", ".join(f"{split} on line {line}" for line, split in places)
    return Problem(
        f"{path}:{places[-1][0]} (listing {listing})",
        what,
        "Give all labels of a listing the same split: gold must never be trained on",
    )
