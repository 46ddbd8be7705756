"""What every engine does: it decodes prompts into chains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from attrloop.components.catalogue.prompts import Prompt


@dataclass(frozen=True)
class Decoding:
    """How prompts are decoded.

    Attributes:
        max_new_tokens: after which a chain is cut off.
        batch_size: prompts decoded together. An engine that schedules by itself is handed a multiple of it at once.
        chains: per prompt.
        temperature: of sampled chains, above 0.
        top_p: the nucleus that tokens are drawn from, in (0, 1].
    """

    max_new_tokens: int
    batch_size: int
    chains: int = 1
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Generation:
    """One decoded chain.

    Attributes:
        text: without special tokens.
        logprobs: of each token at temperature 1, in nats, the end token included.
        tokens: how many.
        answer_logprob: sum over the tokens after the last 'Answer:', or over all tokens if there is no such mark.
        finished: whether the chain ended with an end token; False if the limit cut it off.
    """

    text: str
    logprobs: list[float]
    tokens: int
    answer_logprob: float
    finished: bool


class Engine(Protocol):
    """A model with an adapter that decodes chains."""

    def prepare(self, references: Sequence[str]) -> None:
        """Opens images, and encodes them if the engine caches that, so that a bad one is found before decoding starts.

        Raises:
            InputError: an image that cannot be read.
        """

    def forget(self) -> None:
        """Frees what was kept for the images seen so far."""

    def generate(
        self, batch: Sequence[Prompt], decoding: Decoding, keys: Sequence[str] | None = None
    ) -> Iterator[tuple[int, list[Generation]]]:
        """Decodes prompts in whatever order is fast.

        Args:
            batch: the prompts.
            decoding: how to decode them.
            keys: one per prompt. A key decides the prompt's random numbers. None decodes greedily.

        Yields:
            (index of the prompt, its `decoding.chains` generations).
        """
