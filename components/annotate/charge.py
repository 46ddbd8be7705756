"""What a request may cost and what a reply has cost. A count that cannot be right is not believed."""

import json
from typing import Any, NamedTuple

from attrloop.components.annotate.request import Request
from attrloop.components.run.config import AnnotateConfig

_CHAT_OVERHEAD = 200  # tokens of roles and separators, with room to spare
_CHARACTERS = 20  # no tokenizer puts more characters of a text into its tokens, on average
_PICTURE = 64  # tokens: fewer (SmolVLM's) no usual model takes for a photograph; a count of less has left pictures out
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

    The endpoint's own count is taken if it can be right. It cannot if it is missing, zero, text, negative or endless,
    contradicts itself, is too small for the texts and pictures, or leaves out a part such as thinking. Then the upper
    estimate is charged, or the count if that is more.

    Args:
        config: prices, and how large pictures are.
        request: with its pictures.
        usage: `usage` of the reply, of any shape.
        reply: the text of the reply.
    """
    pictures = len(request.pictures)
    most = prompt_limit(request, pictures, config.image_side)
    told = usage if isinstance(usage, dict) else {}
    shown = len(request.instructions + request.text) / _CHARACTERS + _PICTURE * pictures
    read, known = _side(told, "prompt", "input", least=shown, most=_TIMES * most)
    written, sure = _side(told, "completion", "output", least=len(reply) / _CHARACTERS, most=_LONGEST)
    believed = known and sure
    if believed and "total_tokens" in told:
        total = _count(told["total_tokens"], 0, _TIMES * most + _LONGEST) or 0
        believed = total == read + written
        written = max(written, total - read)
    if not believed:
        read, written = max(read, most), max(written, request.max_tokens)
    return Charge(read, written, price(config, read, written))


def _side(told: dict[str, Any], name: str, also: str, *, least: float, most: int) -> tuple[int, bool]:
    """The tokens of what was read or written, with parts that the count leaves out; and whether it can be right."""
    count = _count(told.get(f"{name}_tokens"), max(1, least), most)
    if count is None:
        return 0, False
    parts = [told.get("reasoning_tokens")] if name == "completion" else []
    for details in (told.get(f"{name}_tokens_details"), told.get(f"{also}_tokens_details")):
        if isinstance(details, dict):
            parts += [part for key, part in details.items() if key.endswith("_tokens")]
        else:
            parts.append(details)
    counts = [_count(part, 0, most) for part in parts if part is not None]
    largest = max((part or 0 for part in counts), default=0)
    return (count, None not in counts) if largest <= count else (count + largest, False)


def _count(told: Any, least: float, most: int) -> int | None:
    """A count of tokens; None if it cannot be right."""
    if isinstance(told, float) and told.is_integer():
        told = int(told)
    if not isinstance(told, int) or isinstance(told, bool):
        return None
    return told if least <= told <= most else None
