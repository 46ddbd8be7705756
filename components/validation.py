"""Reads YAML that people write into pydantic models; reports every fault with file, line and key."""

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from attrloop.components.documents import Malformed
from attrloop.components.errors import InputError, Problem
from attrloop.components.yaml_documents import ODD_SPACE, Plain, read_yaml

Model = TypeVar("Model", bound=BaseModel)

_NO_LIST, _NO_MAPPING, _NO_TEXT = "not a list", "not a mapping of keys to values", "not text"
_FAULTS = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "tuple_type": _NO_LIST,
    "list_type": _NO_LIST,
    "dict_type": _NO_MAPPING,
    "model_type": _NO_MAPPING,
    "string_type": _NO_TEXT,
    "string_too_short": "empty",
    "bool_parsing": "neither true nor false",
    "bool_type": "neither true nor false",
}
_REMEDIES = {
    "tuple_type": "Write a list: [a, b]",
    "list_type": "Write a list: [a, b]",
    "extra_forbidden": "Remove it or correct its spelling",
    "missing": "Add it",
    "too_short": "List more entries",
    "dict_type": "Write key: value, each on a line of its own",
    "model_type": "Write key: value, each on a line of its own",
    "string_type": "Write a text",
    "string_too_short": "Write a text",
    "bool_parsing": "Write true or false",
    "bool_type": "Write true or false",
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
        raise InputError([problem_of(fault, tree, name) for fault in faults_of(error)]) from error


def faults_of(error: ValidationError) -> list[Any]:
    """What pydantic found, without lists that are too short only because an entry has a fault of its own."""
    faults = error.errors()
    lists = {fault["loc"][:k] for fault in faults for k in range(len(fault["loc"]))}  # that have a fault inside
    return [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in lists]


def told(fault: Any) -> tuple[str, str]:
    """What is wrong, and the remedy, of a fault that pydantic found, in plain words.

    Args:
        fault: one of `ValidationError.errors()`.
    """
    kind, about = fault["type"], fault.get("ctx", {})
    if kind == "literal_error":
        allowed = about["expected"].replace("'", "")
        return "not one of the words that are allowed", f"Use {allowed}"
    if kind == "too_short":
        return f"has {about['actual_length']} of at least {about['min_length']} entries", _REMEDIES[kind]
    return _FAULTS.get(kind, fault["msg"].removeprefix("Value error, ")), _REMEDIES.get(kind, "Correct this entry")


def problem_of(fault: Any, tree: yaml.Node | None, name: str) -> Problem:
    """A fault that pydantic found, with its line in a YAML document.

    Args:
        fault: one of `ValidationError.errors()`.
        tree: the document; None to name the first line.
        name: of the document in the problem: its file.
    """
    key = ".".join(str(part) for part in fault["loc"]) or "the document"
    what, remedy = told(fault)
    if what == _NO_LIST and isinstance(fault["input"], str | int | float):
        remedy = f"Write [{str(fault['input']).strip('[] ')}]"
    if fault["type"] == "string_too_short" and isinstance(fault["input"], Plain):
        remedy = "Write a text; one that begins with one of # & > | ! needs quotes, such as '#fff'"
    if what in (_NO_LIST, _NO_MAPPING) and isinstance(fault["input"], Plain) and ODD_SPACE.search(fault["input"]):
        remedy = "Replace a space that is no plain one, such as U+00A0, by a plain space"
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
