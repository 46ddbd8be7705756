"""The catalogue's schema: verticals, their attributes, and the closed list of values of each attribute.

It also decides when two answers are the same (`Attribute.canonical`).

Three values are special, and allowed only where an attribute lists them: `none` (the product lacks it), `not_visible`
(the images do not show it) and `other` (the product has a value that is not listed).
"""

import re
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from attrloop.components.errors import fail
from attrloop.components.storage import inputs
from attrloop.components.validation import validate_yaml

VERSION = 1  # of `Attribute.canonical`: raise it when an answer gets another value. What was made with it is made anew
NOT_VISIBLE = "not_visible"
SEPARATOR = "; "  # between the values of a many-valued answer


def fold(text: str) -> str:
    """The form in which spellings are compared: 'Polka-Dot ' and 'polka_dot' both become 'polka dot'.

    Case, white space, hyphens, underscores, the encoding of accents, and quotes and full stops around it do not count.
    """
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", text)).strip(" .'\"").casefold()


def abstains(answer: str | None) -> bool:
    """Whether an answer is `not_visible`, in any spelling."""
    return answer is not None and fold(answer) == fold(NOT_VISIBLE)


class Value(BaseModel):
    """One allowed value. In YAML a plain string stands for a value with nothing but a name.

    Attributes:
        name: the canonical form of an answer.
        description: a few words for the annotator and the model.
        synonyms: other spellings that count as this value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    description: str = ""
    synonyms: tuple[str, ...] = ()


def _value(raw: Any) -> Any:
    return {"name": raw} if isinstance(raw, str) else raw


class Attribute(BaseModel):
    """An attribute of a vertical.

    Attributes:
        description: a few words for the annotator and the model.
        values: the closed list, of two values or more.
        many: whether a product can have several of the values at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    description: str = ""
    values: tuple[Annotated[Value, BeforeValidator(_value)], ...] = Field(min_length=2)
    many: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the values, in the schema's order."""
        return [value.name for value in self.values]

    @cached_property
    def _canonical(self) -> dict[str, str]:
        return {fold(form): value.name for value in self.values for form in (value.name, *value.synonyms)}

    @model_validator(mode="after")
    def _distinct(self) -> "Attribute":
        seen: dict[str, str] = {}
        for value in self.values:
            if SEPARATOR.strip() in value.name or "\n" in value.name:
                raise ValueError(f"value {value.name!r} must not contain {SEPARATOR.strip()!r} or a line break")
            for form in (value.name, *value.synonyms):
                if (other := seen.setdefault(fold(form), value.name)) != value.name:
                    raise ValueError(f"{form!r} stands for both {other!r} and {value.name!r}")
        if len({fold(name) for name in self.names}) < len(self.names):
            raise ValueError("a value is listed twice")
        return self

    def canonical(self, answer: str | list[str] | None) -> str | None:
        """The canonical form of an answer, in which voting, evaluation and prediction compare answers.

        Args:
            answer: one value, or several in a list or separated by semicolons or line breaks; each may be a synonym.

        Returns:
            The names of the values, in the schema's order, joined by `SEPARATOR`. None for no answer, for a value that
            is not in the list, and for several values where only one is allowed.
        """
        if answer is None:
            return None
        parts = answer if isinstance(answer, list) else (re.split(r"[;\n]", answer) if self.many else [answer])
        names = {self._canonical.get(fold(part)) for part in parts if fold(part)}
        if not names or None in names or (len(names) > 1 and not self.many):
            return self._canonical.get(fold(answer)) if isinstance(answer, str) else None
        return SEPARATOR.join(name for name in self.names if name in names)


class Vertical(BaseModel):
    """A kind of product, such as mugs.

    Attributes:
        description: a few words for the annotator.
        attributes: by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    description: str = ""
    attributes: dict[str, Attribute] = Field(min_length=1)


class Schema(BaseModel):
    """All verticals of a catalogue by name, as in `schema.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    verticals: dict[str, Vertical] = Field(min_length=1)

    def attribute(self, vertical: str, attribute: str) -> Attribute:
        """An attribute of a vertical."""
        return self.verticals[vertical].attributes[attribute]

    def tasks(self) -> list[tuple[str, str]]:
        """Every (vertical, attribute), in the schema's order."""
        return [(vertical, attribute) for vertical, entry in self.verticals.items() for attribute in entry.attributes]


def load_schema(path: str | Path) -> Schema:
    """Reads a schema (YAML) from a local path or a URI of an object store.

    Raises:
        InputError: the file is missing or not YAML, it has no verticals, an attribute has fewer than two values, or a
            spelling stands for two values.
    """
    if not inputs.exists(path):
        raise fail(str(path), "no such schema file", "Give the path of a schema.yaml")
    return validate_yaml(Schema, inputs.text(path), str(path))
