"""The catalogue's schema: verticals, their attributes, and the closed list of values of each attribute.

It also decides when two answers are the same (`Attribute.canonical`).

Three values are special, and allowed only where an attribute lists them: `none` (the product lacks it), `not_visible`
(the images do not show it) and `other` (the product has a value that is not listed). Each stands alone, also where an
attribute can have several values.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from attrloop.components.catalogue.spelling import fold, ladder, seen
from attrloop.components.errors import fail
from attrloop.components.storage import inputs
from attrloop.components.validation import validate_yaml

VERSION = 2  # of `Attribute.canonical`: raise it when an answer gets another value. What was made with it is made anew
NOT_VISIBLE = "not_visible"
SPECIAL = ("none", NOT_VISIBLE, "other")
SEPARATOR = "; "  # between the values of a many-valued answer
_BETWEEN = re.compile(r"[;；\n]")
_FOLDED = {special: fold(special) for special in SPECIAL}


def abstains(answer: str | None) -> bool:
    """Whether an answer is `not_visible`, in any spelling."""
    return answer is not None and fold(answer) == _FOLDED[NOT_VISIBLE]


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

    @property
    def hint(self) -> str:
        """What to do about an answer that is no value."""
        alone = sorted(self._alone) if self.many else []
        also = f" ({' and '.join(alone)} only alone)" if alone else ""
        return f"Use one of: {', '.join(self.names)}{also}; or add it to the schema"

    @property
    def forms(self) -> list[tuple[str, str]]:
        """Every spelling that the schema gives, with the name of its value."""
        return [(form, value.name) for value in self.values for form in (value.name, *value.synonyms)]

    @cached_property
    def _rungs(self) -> list[dict[str, str | None]]:
        """On each rung of `spelling.ladder`, the value that a spelling stands for; None for one that is two values."""
        rungs: list[dict[str, str | None]] = [{} for _ in ladder("")]
        for form, name in self.forms:
            for rung, spelling in zip(rungs, ladder(form), strict=True):
                rung[spelling] = name if rung.setdefault(spelling, name) == name else None
        return rungs

    @cached_property
    def _alone(self) -> set[str]:
        return {name for name in self.names if fold(name) in _FOLDED.values()}

    @model_validator(mode="after")
    def _distinct(self) -> "Attribute":
        if wrong := [name for name in self.names if _BETWEEN.search(name)]:
            raise ValueError(f"value {wrong[0]!r} must not contain {SEPARATOR.strip()!r} or a line break")
        if len({seen(name) for name in self.names}) < len(self.names):
            raise ValueError("a value is listed twice")
        stands_for: dict[str, str] = {}
        for form, name in self.forms:
            if not seen(form):
                raise ValueError(f"{form!r} of value {name!r} is empty")
            if (other := stands_for.setdefault(seen(form), name)) != name:
                raise ValueError(f"{form!r} stands for both {other!r} and {name!r}")
        return self

    def canonical(self, answer: str | list[str] | None) -> str | None:
        """The canonical form of an answer, in which voting, evaluation and prediction compare answers.

        A value is found by its exact spelling, else by the strictest folding that some value shares with it (see
        `spelling`), if no second value does.

        Args:
            answer: one value, or several in a list or separated by semicolons or line breaks; each may be a synonym.

        Returns:
            The names of the values, in the schema's order, joined by `SEPARATOR`. None for no answer, for a value that
            is not in the list, for several values where only one is allowed, and for `none`, `not_visible` or `other`
            beside another value.
        """
        if answer is None:
            return None
        if isinstance(answer, str) and (whole := self._value(answer)) is not None:
            return whole
        parts = answer if isinstance(answer, list) else _BETWEEN.split(answer) if self.many else [answer]
        found = {self._value(part) for part in parts if seen(part)}
        names = [name for name in self.names if name in found]
        several = len(names) > 1
        if not names or None in found or (several and (not self.many or self._alone & found)):
            return None
        return SEPARATOR.join(names)

    def _value(self, text: str) -> str | None:
        if text in self._rungs[0]:
            return self._rungs[0][text]
        for rung, spelling in zip(self._rungs, ladder(text), strict=True):
            if spelling in rung:
                return rung[spelling]
        return None


def _tell_apart(names: Iterable[str]) -> None:
    """Raises for a name that nobody sees, and for two that look the same."""
    first: dict[str, str] = {}
    for name in names:
        if not seen(name):
            raise ValueError(f"the name {name!a} is empty")
        if (other := first.setdefault(seen(name), name)) != name:
            raise ValueError(f"the names {other!a} and {name!a} look the same: keep one of them")


class Vertical(BaseModel):
    """A kind of product, such as mugs.

    Attributes:
        description: a few words for the annotator.
        attributes: by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    description: str = ""
    attributes: dict[str, Attribute] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "Vertical":
        _tell_apart(self.attributes)
        return self


class Schema(BaseModel):
    """All verticals of a catalogue by name, as in `schema.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    verticals: dict[str, Vertical] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "Schema":
        _tell_apart(self.verticals)
        return self

    def attribute(self, vertical: str, attribute: str) -> Attribute:
        """An attribute of a vertical."""
        return self.verticals[vertical].attributes[attribute]

    def alike(self) -> list[str]:
        """Values that differ only in case, hyphens and the like, e.g. `mug/colour: 'Red' and 'red'`."""
        found = []
        for vertical, attribute in self.tasks():
            first: dict[str, str] = {}
            for name in self.attribute(vertical, attribute).names:
                if (other := first.setdefault(fold(name), name)) != name:
                    found.append(f"{vertical}/{attribute}: {other!r} and {name!r}")
        return found

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
