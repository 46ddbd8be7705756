"""Errors written for the person who reads them: what is wrong, where, and what to do."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tab and line break

_LONGEST_PLACE, _LONGEST = 600, 5_000  # characters of a place, and of what is wrong with it


def printable(text: str) -> str:
    """Text from outside as a terminal can show it: control characters and half characters as their codes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _short(text: str, most: int) -> str:
    """A text without its middle if it is longer than `most` characters: a name from outside can be of any length."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Attributes:
        where: file and line or id, e.g. `labels.jsonl:12 (listing mug-7)`.
        what: what is wrong, e.g. `'stripy' is not a value of pattern`.
        remedy: what to do, e.g. `use one of: solid, striped`.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """The problem as a person reads it."""
        where, what = _short(self.where, _LONGEST_PLACE), _short(self.what, _LONGEST)
        return printable(f"{where}: {what}. {self.remedy}{'' if self.remedy.endswith('?') else '.'}")


class AttrloopError(Exception):
    """A failure that attrloop can explain. The command line prints it without a traceback."""


class InputError(AttrloopError):
    """Bad input. It carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        shown = "\n".join(f"  - {problem}" for problem in problems[:50])
        more = f"\n  ... and {len(problems) - 50} more" if len(problems) > 50 else ""
        super().__init__(f"{len(problems)} problem{'s' if len(problems) != 1 else ''} found:\n{shown}{more}")


def fail(where: str, what: str, remedy: str) -> InputError:
    """Makes an `InputError` with one problem, to be raised by the caller."""
    return InputError([Problem(where, what, remedy)])


@contextmanager
def explained_disk(where: str) -> Iterator[None]:
    """Turns the error of a full disk or quota into an `InputError` that names the file. Other errors pass."""
    try:
        yield
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        # An error of polars has the number in its text alone.
        in_text = any(f"(os error {number})" in str(error) for number in full)
        if getattr(error, "errno", None) not in full and not in_text:
            raise
        remedy = "Free some space, then run the same command again: what is finished is kept"
        raise fail(where, "no space left on the device", remedy) from error
