"""One request to the annotator: everything about a listing in, one answer per attribute of its vertical out."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Attribute, Vertical, fold
from attrloop.components.digests import digest
from attrloop.components.run.config import AnnotateConfig

VERSION = 1  # of the wording below: part of every cache key
SYSTEM = (
    "You label photographs of products for a catalogue. Look at the photographs and answer for every attribute with a value of its list. "
    "Give as rationale one short sentence that says what can be seen in the photographs and decides the value. Do not guess from the title alone."
)
_CHAT_OVERHEAD = 200  # tokens of roles and separators, with room
_ANSWER_TOKENS = (200, 150)  # most completion tokens: of a reply, and of each attribute in it


def _lenient(attribute: Attribute) -> BeforeValidator:
    """Takes 'Polka Dot' for 'polka_dot': endpoints without constrained decoding answer in their own spelling."""

    def one(value: Any) -> Any:
        found = attribute.canonical(value) if isinstance(value, str) else None
        return found if found in attribute.names else value

    return BeforeValidator(
        lambda raw: [one(part) for part in raw] if isinstance(raw, list) else [one(raw)] if attribute.many else one(raw)
    )


def answer_model(vertical: Vertical) -> type[BaseModel]:
    """The pydantic model of a reply: for each attribute an object with a rationale and a value of the closed list (a list of them when many-valued)."""
    fields: dict[str, Any] = {}
    for k, (name, attribute) in enumerate(vertical.attributes.items()):
        listed: Any = Literal[tuple(attribute.names)]
        several: Any = list[listed]
        value: Any = Annotated[several if attribute.many else listed, _lenient(attribute)]
        answer = create_model(
            f"Answer{k}",
            __config__=ConfigDict(extra="forbid"),
            rationale=(str, Field(description="One short sentence on what can be seen")),
            value=(
                value,
                Field(description="Every value that applies" if attribute.many else "The value that applies"),
            ),
        )
        # Attribute names need not be Python names, so the field has one of its own and the attribute's as its alias.
        fields[f"attribute_{k}"] = (answer, Field(alias=name, description=attribute.description or name))
    return create_model("Answers", __config__=ConfigDict(extra="forbid"), **fields)


def prompt(listing: Listing, vertical: Vertical) -> str:
    """The text part: what is known of the listing, then every attribute with its closed list."""
    lines = [f"Product: {listing.vertical}" + (f" ({vertical.description})" if vertical.description else "")]
    if listing.title:
        lines.append(f"Title: {listing.title}")
    if listing.metadata:
        lines.append("Known: " + ", ".join(f"{key}: {value}" for key, value in listing.metadata.items()))
    for name, attribute in vertical.attributes.items():
        about = f" ({attribute.description})" if attribute.description else ""
        lines.append(f"{name}{about}: {'one or more' if attribute.many else 'one'} of")
        lines += [f"- {_value_line(value.name, value.description, value.synonyms)}" for value in attribute.values]
    return "\n".join(lines)


def _value_line(name: str, description: str, synonyms: Sequence[str]) -> str:
    also = [form for form in synonyms if fold(form) != fold(name)]
    return name + (f": {description}" if description else "") + (f" (also called {', '.join(also)})" if also else "")


@dataclass(frozen=True)
class Request:
    """What is asked about one listing.

    Attributes:
        model: of the reply (see `answer_model`).
        pictures: JPEGs; empty when the answer is in the cache already.
        key: digest of image digests, prompt and its version, reply schema, annotator model and image size.
    """

    listing: Listing
    vertical: Vertical
    model: type[BaseModel]
    text: str
    key: str
    pictures: tuple[bytes, ...] = ()

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"type": "text", "text": self.text}]
        for picture in self.pictures:
            parts.append(
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(picture).decode()},
                }
            )
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": parts}]

    def rows(self, answers: dict[str, Any]) -> dict[str, tuple[str, str]]:
        """A reply's (rationale, canonical value) by attribute.

        Raises:
            ValueError: a value that is off the list, which an empty list of values is too.
        """
        found = {}
        for name, attribute in self.vertical.attributes.items():
            value = attribute.canonical(answers[name]["value"])
            if value is None:
                raise ValueError(f"{answers[name]['value']!r} is not a value of {name}")
            found[name] = (" ".join(answers[name]["rationale"].split()), value)
        return found


def make_request(
    listing: Listing, vertical: Vertical, model: type[BaseModel], config: AnnotateConfig, image_digests: list[str]
) -> Request:
    """A request without its pictures."""
    text = prompt(listing, vertical)
    key = digest(image_digests, SYSTEM + text, VERSION, model.model_json_schema(), config.model, config.image_side)
    return Request(listing, vertical, model, text, key)


def completion_limit(vertical: Vertical) -> int:
    """Most tokens that a reply may have: the request's `max_completion_tokens`."""
    values = sum(len(attribute.values) for attribute in vertical.attributes.values() if attribute.many)
    return _ANSWER_TOKENS[0] + _ANSWER_TOKENS[1] * len(vertical.attributes) + 10 * values


def prompt_limit(text: str, model: type[BaseModel], images: int, side: int) -> int:
    """An upper estimate of a request's prompt tokens: a token is at least one byte of text; an image one token per 28 x 28 pixels (Qwen2.5-VL),
    times 1.7, which also covers the patches and tiles that OpenAI and Google count.
    """
    schema = json.dumps(model.model_json_schema())
    return _CHAT_OVERHEAD + len((SYSTEM + text + schema).encode()) + round(images * 1.7 * (side / 28 + 1) ** 2)


def price(config: AnnotateConfig, prompt_tokens: int, completion_tokens: int) -> float:
    """US dollars."""
    return (prompt_tokens * config.price_in + completion_tokens * config.price_out) / 1e6


def cost_limit(config: AnnotateConfig, request: Request, images: int) -> float:
    """An upper estimate of a request's cost in US dollars."""
    return price(
        config, prompt_limit(request.text, request.model, images, config.image_side), completion_limit(request.vertical)
    )
