"""How the model's processor tokenises prompts, and its tokenizer reads chains: the same for every engine."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from attrloop.components.catalogue import prompts
from attrloop.components.engines.engine import Generation
from attrloop.components.errors import AttrloopError
from attrloop.components.model.features import image_placeholder
from attrloop.components.model.texts import TextEncoder

_KEPT = 50_000  # prompts whose tokens are remembered
_TEXT = "TEXT-OF-THE-PROMPT"  # stands for it in the chat template


class Tokens:
    """The tokens of one processor.

    Attributes:
        texts: encodes text from outside.

    Args:
        processor: as AutoProcessor loads it.
    """

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.texts = TextEncoder(processor.tokenizer)
        self._marks = [self.texts.markup(before + prompts.MARK) for before in (" ", "")]
        self._templates: dict[int, tuple[str, str]] = {}
        self._prompts: dict[tuple[str, int], list[int]] = {}

    def chat(self, text: str, images: int) -> str:
        """The prompt in the model's chat template, up to where the model's answer begins."""
        before, after = self._around(images)
        return before + text + after

    def _around(self, images: int) -> tuple[str, str]:
        """What the chat template writes before and after the text of a prompt."""
        if images not in self._templates:
            turns = prompts.messages(_TEXT, images)
            before, found, after = self._rendered(turns, add_generation_prompt=True).partition(_TEXT)
            if not found or _TEXT in after:
                name = self.tokenizer.name_or_path
                raise AttrloopError(f"{name}: its chat template does not show a prompt once. Use another base model.")
            self._templates[images] = before, after
        return self._templates[images]

    def _rendered(self, turns: list[dict[str, Any]], **options: Any) -> str:
        try:
            rendered: str = self.processor.apply_chat_template(turns, tokenize=False, **options)
        except (ValueError, TemplateError) as error:
            what = f"its processor's chat template cannot be used ({error})"
            raise AttrloopError(f"{self.tokenizer.name_or_path}: {what}. Use another base model.") from error
        return rendered

    def closing(self, ends: Sequence[int]) -> int:
        """The end token that closes an answer in the model's chat template; the first one if none does."""
        turns = [*prompts.messages("?", 0), {"role": "assistant", "content": [{"type": "text", "text": prompts.MARK}]}]
        after = self._rendered(turns).rpartition(prompts.MARK)[2]
        return next((token for token in self.texts.markup(after) if token in ends), ends[0])

    def prompt(self, text: str, images: int) -> list[int]:
        """Token ids of the prompt with a single placeholder for each image. Nothing in `text` is a control token."""
        key = (text, images)
        if key not in self._prompts:
            if len(self._prompts) > _KEPT:
                self._prompts.clear()
            before, after = self._around(images)
            self._prompts[key] = self.texts.between(before, text, after)
        return self._prompts[key]

    def names_control_tokens(self, text: str, images: int) -> bool:
        """Whether a tokenizer that is not told otherwise would make control tokens of a prompt's text."""
        return self.texts.markup(self.chat(text, images)) != self.prompt(text, images)

    def filled(self, ids: Sequence[int], images: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """A prompt's token ids with those of each image in the place of its placeholder, as pieces to be joined.

        Args:
            ids: the prompt's, with a single placeholder for each image.
            images: token ids of each image.

        Returns:
            text, image, text, ..., image, text.

        Raises:
            AttrloopError: the model's chat template has no place for the images.
        """
        placeholder = self.tokenizer.convert_tokens_to_ids(image_placeholder(self.processor))
        slots = [place for place, token in enumerate(ids) if token == placeholder]
        if len(slots) != len(images):
            what = f"its chat template has {len(slots)} image slots for {len(images)} images"
            raise AttrloopError(f"{self.tokenizer.name_or_path}: {what}. Use another base model.")
        starts, ends = [0, *(slot + 1 for slot in slots)], [*slots, len(ids)]
        pieces = [ids[start:end] for start, end in zip(starts, ends, strict=True)]
        return [piece for both in zip(pieces, [*images, ()], strict=True) for piece in both][:-1]

    def whole(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        """Token ids of the prompt with each image's own tokens, made by the processor."""
        placeholder = image_placeholder(self.processor)
        own = [
            self.processor(text=[placeholder], images=[[image]], add_special_tokens=False)["input_ids"][0]
            for image in images
        ]
        return [token for piece in self.filled(self.prompt(text, len(images)), own) for token in piece]

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
