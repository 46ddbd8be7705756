"""Text from outside as tokens: a control token's name in a title or a rationale is characters, not a control token."""

import copy
import re
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

from attrloop.components.errors import AttrloopError

Encode = Callable[[str], list[int]]
_BRACKET = re.compile(r"[<>\[\]{}|]")


class TextEncoder:
    """Encodes text in which control tokens may be named.

    Control tokens are a tokenizer's special tokens (`<|im_end|>`, `<image>`, `</s>`), and its other added tokens whose
    names have a bracket or a bar (`<tool_call>`). Words and white space that were added are ordinary text.

    Args:
        tokenizer: of transformers, fast or slow.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._names = {
            number: str(token)
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special or _BRACKET.search(str(token))
        } | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))

    def control(self, ids: list[int]) -> list[int]:
        """The control tokens among token ids, in order."""
        return [token for token in ids if token in self._names]

    def markup(self, text: str) -> list[int]:
        """Token ids of our own text, such as what the chat template writes: control tokens are control tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, text: str) -> list[int]:
        """Token ids of text without a control token. Text that names none has the tokenizer's usual ids."""
        ids = self.markup(text)
        return self._spelled(text, self._plain) if self.control(ids) else ids

    def between(self, before: str, text: str, after: str) -> list[int]:
        """Token ids of text between two pieces of markup."""
        ids = self.markup(before + text + after)
        if self.control(ids) == self.control(self.markup(before + after)):
            return ids
        return (
            self.markup(before)
            + self._spelled(text, self._continued(self._plain))
            + self._continued(self.markup)(after)
        )

    def _spelled(self, text: str, encode: Encode) -> list[int]:
        ids = encode(text)
        if not self._made(ids):
            return ids
        ids = []  # a vocabulary that finds the name as a word: it is none when it is cut after its first character
        names = "|".join(map(re.escape, sorted(self._names.values(), key=len, reverse=True)))
        cuts = [0, *(found.start() + 1 for found in re.finditer(f"(?={names})", text)), len(text)]
        for start, end in pairwise(cuts):
            ids += (self._continued(self._plain) if start else encode)(text[start:end])
        if made := self._made(ids):
            what = f"its tokenizer makes the control token {self._names[made[0]]!r} of the text {text[:80]!r}"
            raise AttrloopError(f"{self.tokenizer.name_or_path}: {what}. Take it out of the text.")
        return ids

    def _made(self, ids: list[int]) -> list[int]:
        """The control tokens among ids, but for the one that stands for a character without a token."""
        return [token for token in self.control(ids) if token != self.tokenizer.unk_token_id]

    @cached_property
    def _twin(self) -> Any:
        """The tokenizer with all control tokens special: `split_special_tokens` overlooks only those."""
        twin = copy.deepcopy(self.tokenizer)
        twin.add_tokens(list(self._names.values()), special_tokens=True)
        return twin

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._twin(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    @staticmethod
    def _continued(encode: Encode) -> Encode:
        """Encodes text as it goes on after other text: without the space that SentencePiece puts before a beginning."""
        start = encode("\n")

        def ids(text: str) -> list[int]:
            after = encode(f"\n{text}")
            return after[len(start) :] if after[: len(start)] == start else encode(text)

        return ids
