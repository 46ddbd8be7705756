"""Reads what people write in YAML into pydantic models; every fault is reported with file, line and key."""

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from attrloop.components.errors import InputError, Problem, fail

Model = TypeVar("Model", bound=BaseModel)

_REMEDIES = {
    "extra_forbidden": "Remove it or correct its spelling",
    "missing": "Add it",
    "too_short": "List more entries",
}


def validate_yaml(model: type[Model], text: str, name: str) -> Model:
    """Parses YAML into a pydantic model.

    Args:
        model: the model.
        text: the YAML.
        name: what errors call the text: its file.

    Raises:
        InputError: with a problem for each fault, which names `name`, the line and the key.
    """
    try:
        raw, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise fail(
            f"{name}:{mark.line + 1 if mark else 1}",
            f"not valid YAML ({getattr(error, 'problem', error)})",
            "Correct the syntax",
        ) from error
    try:
        return model.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        raise InputError([problem_of(fault, tree, name) for fault in error.errors()]) from error


def problem_of(fault: Any, tree: yaml.Node | None, name: str) -> Problem:
    """A fault that pydantic found, with its line in a YAML document.

    Args:
        fault: one of `ValidationError.errors()`.
        tree: the document; None for the first line of anything.
        name: what to call the document: its file.
    """
    key = ".".join(str(part) for part in fault["loc"]) or "the document"
    what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
    remedy = _REMEDIES.get(fault["type"], "Correct this entry")
    return Problem(f"{name}:{_line_of(tree, fault['loc'])} ({key})", what, remedy)


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest node on `location`'s path that the document has."""
    line = 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
            if not found:
                break
            line, node = found[-1][0].start_mark.line + 1, found[-1][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
