"""What a check finds."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from attrloop.components.errors import AttrloopError, InputError, Problem


@dataclass
class Finding:
    """What one check found.

    Attributes:
        name: of the check, e.g. `listings`.
        detail: one line for the table: what was found.
        problems: what must be corrected before the run can start.
        note: whether the detail is worth reading, although it does not stop the run.
    """

    name: str
    detail: str = ""
    problems: list[Problem] = field(default_factory=list)
    note: bool = False

    @property
    def state(self) -> str:
        """`problem`, `note` or `ok`."""
        return "problem" if self.problems else "note" if self.note else "ok"

    @contextmanager
    def gathering(self, where: str) -> Iterator[None]:
        """Adds what the block raises to the problems, so that the other checks still run.

        Args:
            where: what the block reads, for errors that do not say it.
        """
        try:
            yield
        except InputError as error:
            self.problems += error.problems
        except AttrloopError as error:
            self.problems.append(Problem(where, str(error).rstrip("."), "Correct the config or the environment"))
        except OSError as error:
            remedy = "Free some space" if error.errno == errno.ENOSPC else "Check the path and its permissions"
            self.problems.append(Problem(str(error.filename or where), error.strerror or str(error), remedy))


def some(listings: Iterable[str]) -> str:
    """The first few of some names."""
    names = list(islice(listings, 4))
    return ", ".join([*names[:3], *["..."] * (len(names) > 3)])
