"""One request to an annotator: everything about a listing, to be answered with one value per attribute."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import SEPARATOR, Attribute, Vertical
from attrloop.components.catalogue.spelling import fold
from attrloop.components.digests import digest
from attrloop.components.documents import parse_json
from attrloop.components.run.config import AnnotateConfig

VERSION = 1  # of the wording below: part of every cache key
SYSTEM = (
    "You label photographs of products for a catalogue. "
    "Look at the photographs and answer for every attribute with a value of its list. "
    "Give as rationale one short sentence that says what can be seen in the photographs and decides the value. "
    "Do not guess from the title alone."
)
_ANSWER_TOKENS = (200, 150)  # most completion tokens: of a reply, and of each attribute in it


def _lenient(attribute: Attribute) -> BeforeValidator:
    """Takes 'Polka Dot' for 'polka_dot', 2 for '2' and 'red; blue' for both of them.

    Endpoints without constrained decoding answer in their own spelling.
    """

    def one(value: Any) -> Any:
        text = json.dumps(value) if isinstance(value, int | float) else value
        found = attribute.canonical(text) if isinstance(text, str) else None
        return found if found in attribute.names else value

    def several(raw: Any) -> list[Any]:
        if isinstance(raw, str) and (found := attribute.canonical(raw)):
            return found.split(SEPARATOR)
        return [name for part in raw for name in several(part)] if isinstance(raw, list) else [one(raw)]

    return BeforeValidator(several if attribute.many else one)


def answer_model(vertical: Vertical) -> type[BaseModel]:
    """The pydantic model of a reply.

    It has an object for each attribute, with a rationale and a value of the closed list, or a list of such values for
    an attribute that can have several.
    """
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
        # An attribute's name need not be a Python name, so it is the alias of a field with a name of its own.
        fields[f"attribute_{k}"] = (answer, Field(alias=name, description=attribute.description or name))
    return create_model("Answers", __config__=ConfigDict(extra="forbid"), **fields)


def prompt(listing: Listing, vertical: Vertical) -> str:
    """The text part: what is known of the listing, then every attribute with its closed list."""
    lines = [f"Product: {listing.vertical}" + (f" ({vertical.description})" if vertical.description else "")]
    lines += prompts.known_of(listing, ": ")
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
    """What an annotator is asked about one listing.

    Attributes:
        listing: the product.
        vertical: the attributes that are asked for, each with its closed list.
        reply: the model that the reply must follow (see `answer_model`).
        text: what is known of the listing, and every closed list, in words.
        key: names the request in the cache: a digest of image digests, text, reply schema, annotator and image size.
        whole: the key of the request for all attributes of the listing, where this one is for some; "" otherwise.
        pictures: JPEGs; empty until it is clear that the cache has no answer.
        instructions: how to answer; the same in every request.
        thinking: tokens that the model may think before it replies.
    """

    listing: Listing
    vertical: Vertical
    reply: type[BaseModel]
    text: str
    key: str
    whole: str = ""
    pictures: tuple[bytes, ...] = ()
    instructions: str = SYSTEM
    thinking: int = 0

    @property
    def max_tokens(self) -> int:
        """Most tokens that a reply may have, the model's thinking included."""
        values = sum(len(attribute.values) for attribute in self.vertical.attributes.values() if attribute.many)
        return self.thinking + _ANSWER_TOKENS[0] + _ANSWER_TOKENS[1] * len(self.vertical.attributes) + 10 * values

    def read(self, text: str) -> dict[str, tuple[str, str]]:
        """Reads a reply.

        Returns:
            (rationale, canonical value) by attribute.

        Raises:
            ValueError: the reply is not JSON of the form asked for, or a value is not in its list.
        """
        try:
            answers = self.reply.model_validate(parse_json(_json_of(text))).model_dump(by_alias=True)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])) or 'reply'}: {fault['msg']}" for fault in error.errors()[:3])
            raise ValueError("; ".join(faults)) from error
        found = {}
        for name, attribute in self.vertical.attributes.items():
            value = attribute.canonical(answers[name]["value"])
            if value is None:  # an empty list of values, which the model lets through
                raise ValueError(f"{answers[name]['value']!r} is not a value of {name}")
            found[name] = (" ".join(answers[name]["rationale"].split()), value)
        return found


def _json_of(text: str) -> str:
    """The JSON of a reply, without the model's thinking before it and the fence around it."""
    if not text.lstrip().startswith("{"):
        text = text.rpartition("</think>")[2]
        _, fence, inner = text.partition("```")
        text = inner[max(0, inner.find("{")) : inner.rfind("```")] if fence else text
    return text


def some_of(vertical: Vertical, attributes: Collection[str]) -> Vertical:
    """A vertical with some of its attributes only, in its order."""
    return vertical.model_copy(
        update={"attributes": {name: entry for name, entry in vertical.attributes.items() if name in attributes}}
    )


def make_request(
    listing: Listing, vertical: Vertical, reply: type[BaseModel], config: AnnotateConfig, image_digests: list[str]
) -> Request:
    """A request without its pictures."""
    text = prompt(listing, vertical)
    # Caches that were filled before there were other annotators stay valid.
    annotator = [config.model] if config.provider == "openai" else [config.provider, config.model]
    key = digest(image_digests, SYSTEM + text, VERSION, reply.model_json_schema(), *annotator, config.image_side)
    return Request(listing, vertical, reply, text, key, thinking=config.thinking_tokens)
