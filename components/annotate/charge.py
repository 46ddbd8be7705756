"""What a request may cost and what a reply has cost. A count that cannot be right is not believed."""

import json
from typing import Any, NamedTuple

from attrloop.components.annotate.request import Request
from attrloop.components.run.config import AnnotateConfig

_CHAT_OVERHEAD = 200  # tokens of roles and separators, with room to spare
_CHARACTERS = 20  # no tokenizer puts more characters of a text into its tokens, on average
_TIMES = 10  # a count of prompt tokens above so many upper estimates is nonsense
_LONGEST = 200_000  # tokens: no model writes a longer reply, its thinking included


class Charge(NamedTuple):
    """What is charged for a reply: tokens that were read and written, and US dollars."""

    prompt_tokens: int
    completion_tokens: int
    cost: float


def price(config: AnnotateConfig, prompt_tokens: int, completion_tokens: int) -> float:
    """What these tokens cost, in US dollars."""
    return (prompt_tokens * config.price_in + completion_tokens * config.price_out) / 1e6


def prompt_limit(request: Request, images: int, side: int) -> int:
    """An upper estimate of a request's prompt tokens.

    A token is at least one byte of text. An image is one token per 28 x 28 pixels (Qwen2.5-VL) times 1.7, which also
    covers the patches and tiles that OpenAI and Google count.

    Args:
        request: may lack its pictures.
        images: how many pictures it will have.
        side: the longest side of a picture, in pixels.
    """
    schema = json.dumps(request.reply.model_json_schema())
    text = (request.instructions + request.text + schema).encode()
    return _CHAT_OVERHEAD + len(text) + round(images * 1.7 * (side / 28 + 1) ** 2)


def cost_limit(config: AnnotateConfig, request: Request, images: int) -> float:
    """An upper estimate of a request's cost in US dollars: what the budget reserves for it."""
    return price(config, prompt_limit(request, images, config.image_side), request.max_tokens)


def charge(config: AnnotateConfig, request: Request, usage: Any, reply: str) -> Charge:
    """What is charged for a reply.

    The endpoint's own count is taken if it can be right. Otherwise the upper estimate is charged, or the count if that
    is more: a count that is missing, zero, text, negative or endless, that contradicts itself, that is too small for
    the texts, or that leaves out the tokens of the model's thinking.

    Args:
        config: prices, and how large pictures are.
        request: with its pictures.
        usage: `usage` of the reply, of any shape.
        reply: the text of the reply.
    """
    most = prompt_limit(request, len(request.pictures), config.image_side)
    told = usage if isinstance(usage, dict) else {}
    read = _count(told.get("prompt_tokens"), len(request.instructions + request.text), _TIMES * most)
    written = _count(told.get("completion_tokens"), len(reply), _LONGEST)
    believed = read is not None and written is not None
    details = told.get("completion_tokens_details")
    thought = _count(details.get("reasoning_tokens"), 0, _LONGEST) if isinstance(details, dict) else None
    if thought is not None and written is not None and thought > written:
        believed, written = False, written + thought
    if believed and "total_tokens" in told:
        total = _count(told["total_tokens"], 0, _TIMES * most + _LONGEST)
        believed = total == (read or 0) + (written or 0)
        written = max(written or 0, (total or 0) - (read or 0))
    if not believed:
        read, written = max(read or 0, most), max(written or 0, request.max_tokens)
    return Charge(read or 0, written or 0, price(config, read or 0, written or 0))


def _count(told: Any, characters: int, most: int) -> int | None:
    """A count of tokens of a text of so many characters; None if it cannot be right."""
    if isinstance(told, float) and told.is_integer():
        told = int(told)
    if not isinstance(told, int) or isinstance(told, bool):
        return None
    return told if max(1, characters / _CHARACTERS) <= told <= most or (not characters and told == 0) else None
