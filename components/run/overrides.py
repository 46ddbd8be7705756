"""Single settings of a run, given by dotted names (`sample.temperature`) in place of what the config file says.

They come from the command line (`--set sample.temperature=0.7`) or from the pipeline parameter `overrides`
(`{"sample.temperature": 0.7}`), and are checked exactly like the file.
"""

import difflib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from attrloop.components.documents import Malformed, parse_json
from attrloop.components.errors import InputError, Problem, fail
from attrloop.components.run.config import PATHS, RunConfig, is_text, load_config, located
from attrloop.components.validation import problem_of
from attrloop.components.yaml_documents import read_yaml, typed

OPTION = "--set {}"
"""Where an override of the command line comes from; errors begin with it."""
PARAMETER = "overrides: {}"
"""Where an override of the pipeline parameter comes from; errors begin with it."""

_FORMER = {"loop_seed": "seed", "data_schema": "data.catalogue_schema"}  # pipeline parameters had these names


def _fields() -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, about in RunConfig.model_fields.items():
        section = about.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found |= {f"{name}.{key}": field for key, field in section.model_fields.items()}
        else:
            found[name] = about
    return found


SETTINGS = _fields()
"""The field of every setting, by its dotted name."""


def is_setting(name: str) -> bool:
    """Whether a name is meant as a setting: it is one, or it has a dot, as only settings have."""
    return "." in name or name in SETTINGS


def read_text(name: str, text: str) -> Any:
    """The value of a text from the command line: the text itself if the setting is a text, else a YAML value.

    A text that is not valid YAML stays as it is; validation then refuses it.

    Raises:
        InputError: a mapping has a key twice.
    """
    about = SETTINGS.get(name)
    if about is None or about.annotation is str or get_origin(about.annotation) is Literal:
        return text
    try:
        found, _ = read_yaml(text, OPTION.format(name))
    except Malformed:
        return text
    return found if is_text(about.annotation) else typed(found)


def read_texts(texts: Mapping[str, str]) -> dict[str, Any]:
    """As `read_text`, for many settings."""
    return {name: read_text(name, text) for name, text in texts.items()}


def read_json(text: str) -> dict[str, Any]:
    """The overrides in the pipeline parameter; "" stands for none.

    Raises:
        InputError: not a JSON object, or a name is in it twice.
    """
    try:
        found = parse_json(text or "{}")
    except Malformed as error:
        raise fail("overrides", error.what, _EXAMPLE) from error
    if not isinstance(found, dict):
        raise fail("overrides", "not a JSON object", _EXAMPLE)
    return found


_EXAMPLE = 'Write it like {"sample.temperature": 0.7, "seed": 3}'


def write_json(overrides: Mapping[str, Any]) -> str:
    """The pipeline parameter that stands for overrides; "" for none."""
    return json.dumps(overrides, sort_keys=True, ensure_ascii=False, default=str) if overrides else ""


def resolve(config: str | Path, overrides: Mapping[str, Any] | None = None, source: str = OPTION) -> RunConfig:
    """The config of a run: a config file, with overrides.

    Args:
        config: path or bucket URI of a run config (YAML, or a workspace's `config.json`).
        overrides: values by dotted name; relative paths start from the current folder.
        source: where the overrides come from: `OPTION` or `PARAMETER`.

    Raises:
        InputError: as `load_config`, and for every override that is unknown or out of range.
    """
    return override(load_config(config), overrides or {}, source)


def override(config: RunConfig, overrides: Mapping[str, Any], source: str = OPTION) -> RunConfig:
    """A config with overrides; see `resolve`."""
    problems = [unknown(name, source) for name in overrides if name not in SETTINGS]
    raw = config.model_dump()
    for name in SETTINGS.keys() & overrides.keys():
        *sections, key = name.split(".")
        target = raw[sections[0]] if sections else raw
        target[key] = _from_here(name, overrides[name])
    try:
        changed = RunConfig.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(fault, overrides, source) for fault in error.errors()]
    if problems:
        raise InputError(problems)
    return changed


def _from_here(name: str, value: Any) -> Any:
    texts = value if isinstance(value, list | tuple) else [value]
    is_path = name in (*PATHS, "model.base") and all(isinstance(text, str) for text in texts)
    return located(name, value, os.getcwd()) if is_path else value


def _problem(fault: Any, overrides: Mapping[str, Any], source: str) -> Problem:
    location = ".".join(map(str, fault["loc"])) + "."
    names = [name for name in overrides if location.startswith(f"{name}.") or f"{name}.".startswith(location)]
    found = problem_of(fault, None, "")  # a fault of a section names all its overrides
    return Problem(source.format(", ".join(names) or location.rstrip(".")), found.what, found.remedy)


def unknown(name: str, source: str = OPTION, others: Collection[str] = ()) -> Problem:
    """The problem of an unknown name, with the settings that it may mean.

    Args:
        name: the name.
        source: where it comes from.
        others: more names that it could have been.
    """
    close = similar(name, [*SETTINGS, *others])
    sections = [key for key in SETTINGS if key.startswith(f"{name}.")]
    if sections:
        return Problem(source.format(name), "a section, not a setting", f"Name one of {', '.join(sections)}")
    remedy = f"Did you mean {' or '.join(close)}?" if close else "See the config reference for every setting"
    return Problem(source.format(name), "unknown setting", remedy)


def similar(name: str, known: Collection[str]) -> list[str]:
    """The known names that an unknown one may mean: with the same last part, or else with the most similar spelling."""
    if name in _FORMER:
        return [_FORMER[name]]
    alike = {other: _likeness(name, other) for other in known}
    best = max(alike.values(), default=0.0)
    if best < 1 and (same_field := [other for other in known if other.rpartition(".")[2] == name]):
        return same_field
    return sorted(other for other, likeness in alike.items() if likeness >= max(_ALIKE, best - 0.01))


_ALIKE = 0.6  # of difflib's ratio


def _likeness(name: str, other: str) -> float:
    given, known = (text.replace("-", "_").replace(".", "_") for text in (name, other))
    return difflib.SequenceMatcher(None, given, known).ratio()
