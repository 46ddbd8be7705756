"""What people write in YAML, read into pydantic models; every fault is named with its file and line."""

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from attrloop.components.errors import InputError, Problem, fail

Model = TypeVar("Model", bound=BaseModel)


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


def validate_yaml(model: type[Model], text: str, name: str) -> Model:
    """Parses YAML into a pydantic model.

    Raises:
        InputError: with a problem per fault, each naming `name`, the line and the key.
    """
    try:
        raw, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise fail(
            f"{name}:{mark.line + 1 if mark else 1}",
            f"not valid YAML ({getattr(error, 'problem', error)})",
            "Mend the syntax",
        ) from error
    try:
        return model.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        raise InputError([problem_of(fault, tree, name) for fault in error.errors()]) from error


def problem_of(fault: Any, tree: yaml.Node | None, name: str) -> Problem:
    """A fault that pydantic found, at its line of a YAML tree."""
    key = ".".join(str(part) for part in fault["loc"]) or "the document"
    remedies = {
        "extra_forbidden": "Remove it or correct its spelling",
        "missing": "Add it",
        "too_short": "List more entries",
    }
    what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
    return Problem(
        f"{name}:{_line_of(tree, fault['loc'])} ({key})", what, remedies.get(fault["type"], "Correct this entry")
    )
