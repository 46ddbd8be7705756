"""What an annotator is: a large model that looks at a listing's pictures and picks a value from every closed list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from attrloop.components.annotate.request import Request
from attrloop.components.errors import InputError, Problem

_EXCERPT = 200  # characters


@dataclass(frozen=True)
class Answer:
    """What came back for one request. It never holds the annotator's key.

    Attributes:
        text: the reply: JSON as `Request.reply` describes it, or whatever came in its place.
        failed: why the reply is known to be unusable, e.g. `cut off after 100 tokens`; "" otherwise. What it says is
            checked elsewhere.
        prompt_tokens: tokens that were read.
        completion_tokens: tokens that were written.
        cost: in US dollars, whether the reply is usable or not. Tries whose reply was lost on the way are included,
            because they may have been charged for.
    """

    text: str
    failed: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Unusable(InputError):
    """The annotator cannot be used at all, so the run stops.

    Attributes:
        cost: what may have been charged for the request until then, in US dollars.
    """

    def __init__(self, problem: Problem, cost: float = 0.0) -> None:
        super().__init__([problem])
        self.cost = cost


@dataclass(frozen=True)
class Readiness:
    """What `Annotator.check` found.

    Attributes:
        detail: one line for people.
        doubtful: the line is worth reading: labelling may fail.
    """

    detail: str
    doubtful: bool = False


class Annotator(Protocol):
    """Asked from several threads at once. The budget, the cache and the checking of replies are not its concern.

    A class that follows this protocol is made from an `AnnotateConfig` and named in `annotators.ANNOTATORS`.
    """

    @property
    def attempts(self) -> int:
        """Requests sent so far, retries included."""

    def check(self) -> Readiness:
        """Finds out, without being charged, whether the annotator can be used.

        Raises:
            InputError: it cannot.
        """

    def ask(self, request: Request, again: Callable[[], bool]) -> Answer:
        """Asks about one listing.

        Args:
            request: what to ask.
            again: to be called before another try after one whose reply was lost, which may have been charged for.
                False: the budget has no room for it.

        Raises:
            Unusable: the annotator cannot be used at all (no key, no quota, out of reach); the run stops.
        """

    def close(self) -> None:
        """Closes connections; nothing is asked afterwards."""


def excerpt(text: str) -> str:
    """The beginning of a reply, in one line that can be stored."""
    text = " ".join(text[: 10 * _EXCERPT].split()).encode(errors="backslashreplace").decode()
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + " ..."
