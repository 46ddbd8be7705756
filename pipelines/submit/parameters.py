"""The parameters of a compiled pipeline, and whether values fit them: the server would start a run with anything."""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from attrloop.components.digests import digest
from attrloop.components.documents import Malformed, parse_json
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.run.overrides import SETTINGS, similar

LIMIT = 10_000  # bytes of a parameter that a server accepts by default
_SHOWN = 80  # characters of a faulty value


@dataclass(frozen=True)
class Compiled:
    """What a compiled pipeline says of itself.

    Attributes:
        name: of the pipeline.
        inputs: each parameter by name, as KFP's pipeline spec describes it (`parameterType`, `defaultValue`,
            `isOptional`).
        images: the images of its steps.
        room: how many iterations it has room for.
        digest: of its content; not of the file, whose comments KFP writes in random order.
    """

    name: str
    inputs: dict[str, dict[str, Any]]
    images: frozenset[str]
    room: int
    digest: str

    def required(self) -> list[str]:
        """Names of the parameters without a default."""
        return [
            name for name, about in self.inputs.items() if "defaultValue" not in about and not about.get("isOptional")
        ]


def read_compiled(path: Path) -> Compiled:
    """Reads a compiled pipeline (YAML).

    Raises:
        InputError: no such file, or not a compiled pipeline.
    """
    if not path.is_file():
        raise fail(str(path), "no such file", "Give the YAML that `attrloop compile` writes")
    try:
        documents = list(
            yaml.load_all(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        )
        spec = documents[0]
        parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        executors = spec["deploymentSpec"]["executors"].values()
        images = frozenset(entry["container"]["image"] for entry in executors if "container" in entry)
        room = sum(entry.startswith("comp-iteration") for entry in spec["components"])
        return Compiled(spec["pipelineInfo"]["name"], parameters, images, room, digest(documents))
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise fail(str(path), "not a compiled pipeline", "Give the YAML that `attrloop compile` writes") from error


def parse(texts: dict[str, str], compiled: Compiled) -> dict[str, Any]:
    """Texts as the values that the pipeline's parameters want.

    Args:
        texts: parameter's name to text; lists and dicts are JSON.
        compiled: the pipeline.

    Raises:
        InputError: every unknown name (with those it could be), every text that is not of the parameter's type, and
            every value that is too long, or empty where the default is not.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, text in texts.items():
        try:
            values[name] = _value(name, text, compiled)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return values


def _value(name: str, text: str, compiled: Compiled) -> Any:
    where = f"--set {name}"
    if name not in compiled.inputs:
        raise fail(where, f"{compiled.name} has no such parameter", _suggestion(name, compiled))
    about = compiled.inputs[name]
    if not text and about.get("defaultValue") != "":
        raise fail(where, "the value is empty", "Give one, or leave it out for the default")
    if len(text.encode()) > LIMIT:
        raise fail(where, f"longer than the {LIMIT:,} bytes that a server accepts", "Put it into a file, give its path")
    wanted, read = _KINDS.get(about["parameterType"], ("text", str))
    try:
        return read(text)
    except ValueError as error:
        why = f": {error.what}" if isinstance(error, Malformed) else ""
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
        raise fail(where, f"{shown!r} is not {wanted}{why}", f"Give {wanted}") from error


def missing(arguments: Collection[str], compiled: Compiled, remedies: dict[str, str]) -> Iterator[Problem]:
    """Every parameter that has neither a value nor a default.

    Args:
        arguments: names of the parameters that are given.
        compiled: the pipeline.
        remedies: by parameter, how to give it where that is not by `--set`.
    """
    for name in compiled.required():
        if name not in arguments:
            about = compiled.inputs[name].get("description", "").rstrip(".")
            yield Problem(
                name,
                f"{compiled.name} needs this parameter ({about})",
                remedies.get(name, f"Give it: --set {name}=..."),
            )


def _suggestion(name: str, compiled: Compiled) -> str:
    if close := similar(name, [*compiled.inputs, *SETTINGS]):
        return f"Did you mean {' or '.join(close)}?"
    return f"It has {', '.join(sorted(compiled.inputs))}; settings of the config have dotted names (sample.temperature)"


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError
    return value


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _json(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not isinstance(value := parse_json(text), kind):
            raise ValueError
        return value

    return read


_KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "STRING": ("text", str),
    "NUMBER_INTEGER": ("a whole number", int),
    "NUMBER_DOUBLE": ("a number", _finite),
    "BOOLEAN": ("true or false", _boolean),
    "LIST": ("a JSON list", _json(list)),
    "STRUCT": ("a JSON object", _json(dict)),
}
