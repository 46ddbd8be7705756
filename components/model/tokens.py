"""How the model's processor tokenises prompts, and its tokenizer reads chains: the same for every engine."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from attrloop.components.catalogue import prompts
from attrloop.components.engines.engine import Generation

_KEPT = 50_000  # prompts whose tokens are remembered


class Tokens:
    """The tokens of one processor.

    Args:
        processor: as AutoProcessor loads it.
    """

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self._marks = [
            self.tokenizer(before + prompts.MARK, add_special_tokens=False)["input_ids"] for before in (" ", "")
        ]
        self._prompts: dict[tuple[str, int], list[int]] = {}

    def chat(self, text: str, images: int) -> str:
        """The prompt in the model's chat template, up to where the model's answer begins."""
        return self.processor.apply_chat_template(
            prompts.messages(text, images), tokenize=False, add_generation_prompt=True
        )

    def closing(self, ends: Sequence[int]) -> int:
        """The end token that closes an answer in the model's chat template; the first one if none does."""
        turns = [*prompts.messages("?", 0), {"role": "assistant", "content": [{"type": "text", "text": prompts.MARK}]}]
        after = self.processor.apply_chat_template(turns, tokenize=False).rpartition(prompts.MARK)[2]
        return next(
            (token for token in self.tokenizer(after, add_special_tokens=False)["input_ids"] if token in ends), ends[0]
        )

    def prompt(self, text: str, images: int) -> list[int]:
        """Token ids of the prompt with a single placeholder for each image."""
        key = (text, images)
        if key not in self._prompts:
            if len(self._prompts) > _KEPT:
                self._prompts.clear()
            self._prompts[key] = self.tokenizer(self.chat(text, images), add_special_tokens=False)["input_ids"]
        return self._prompts[key]

    def whole(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        """Token ids of the prompt with each image's own tokens, made by the processor."""
        return self.processor(text=[self.chat(text, len(images))], images=[list(images)], add_special_tokens=False)[
            "input_ids"
        ][0]

    def generation(self, ids: list[int], logprobs: list[float], finished: bool) -> Generation:
        """A chain from its tokens and their log-probabilities, both with the end token if there is one."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Generation(text.strip(), logprobs, len(ids), sum(logprobs[self._answer_start(ids) :]), finished)

    def _answer_start(self, ids: list[int]) -> int:
        """Index of the first token after the last 'Answer:'."""
        for end in range(len(ids), 0, -1):
            if any(ids[max(0, end - len(mark)) : end] == mark for mark in self._marks):
                return end
        return 0
