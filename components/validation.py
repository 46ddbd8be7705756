"""Reads YAML that people write into pydantic models; reports every fault with file, line and key."""

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from attrloop.components.documents import Malformed
from attrloop.components.errors import InputError, Problem
from attrloop.components.yaml_documents import read_yaml

Model = TypeVar("Model", bound=BaseModel)

_NO_LIST = "not a list"
_FAULTS = {"extra_forbidden": "unknown key", "tuple_type": _NO_LIST, "list_type": _NO_LIST}
_REMEDIES = {
    "tuple_type": "Write a list: [a, b]",
    "list_type": "Write a list: [a, b]",
    "extra_forbidden": "Remove it or correct its spelling",
    "missing": "Add it",
    "too_short": "List more entries",
}


def validate_yaml(model: type[Model], text: str, name: str) -> Model:
    """Parses YAML into a pydantic model. Scalars are text as written, which pydantic makes numbers where it wants them.

    Args:
        model: the model.
        text: the YAML.
        name: of the text in error messages: its file.

    Raises:
        InputError: with a problem for each fault, with `name`, the line and the key; and as `read_yaml`.
    """
    try:
        raw, tree = read_yaml(text, name)
    except Malformed as error:
        raise error.problem(name) from error
    try:
        return model.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        raise InputError([problem_of(fault, tree, name) for fault in error.errors()]) from error


def problem_of(fault: Any, tree: yaml.Node | None, name: str) -> Problem:
    """A fault that pydantic found, with its line in a YAML document.

    Args:
        fault: one of `ValidationError.errors()`.
        tree: the document; None to name the first line.
        name: of the document in the problem: its file.
    """
    key = ".".join(str(part) for part in fault["loc"]) or "the document"
    what = _FAULTS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
    remedy = _REMEDIES.get(fault["type"], "Correct this entry")
    if what == _NO_LIST and isinstance(fault["input"], str | int | float):
        remedy = f"Write [{str(fault['input']).strip('[] ')}]"
    return Problem(f"{name}:{_line_of(tree, fault['loc'])} ({key})", what, remedy)


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest node on the path `location` that the document has."""
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
