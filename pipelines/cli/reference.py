"""The reference of the config and of the command line as Markdown, generated from the code.

python -m attrloop.pipelines.cli.reference config
python -m attrloop.pipelines.cli.reference cli
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from attrloop.components.run.config import RunConfig

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def config_reference() -> str:
    """The reference of the run config: every setting by its dotted name, section by section."""
    schema = RunConfig.model_json_schema()
    sections = {
        name: about["$ref"].rpartition("/")[2] for name, about in schema["properties"].items() if "$ref" in about
    }
    plain = {name: about for name, about in schema["properties"].items() if name not in sections}
    lines = [
        "# Config reference",
        "",
        "Any setting can be given on the command line too, by the name in the table: `--set sample.temperature=0.7`.",
        "",
        *_settings(plain, schema.get("required", []), "", RunConfig),
    ]
    for name, model in sections.items():
        section, about = schema["$defs"][model], RunConfig.model_fields[name].annotation
        assert isinstance(about, type) and issubclass(about, BaseModel)
        lines += [f"## {name}", "", _one_line(section.get("description", "")), ""]
        lines += _settings(section["properties"], section.get("required", []), f"{name}.", about)
    return "\n".join(lines)


def _settings(properties: dict[str, Any], required: list[str], prefix: str, model: type[BaseModel]) -> Iterator[str]:
    yield from ("| setting | type | default | description |", "|---|---|---|---|")
    for name, about in properties.items():
        default = (
            "required" if name in required else _code(model.model_fields[name].get_default(call_default_factory=True))
        )
        yield f"| `{prefix}{name}` | {_type(about)} | {default} | {_cell(about.get('description', ''))} |"
    yield ""


def _type(about: dict[str, Any]) -> str:
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    kind = {"array": "list", "object": "mapping", "boolean": "true, false"}.get(about["type"], about["type"])
    bounds = [f"{sign} {about[key]:g}" for key, sign in _BOUNDS.items() if key in about]
    return " ".join([kind, ", ".join(bounds)]).strip() + (
        f" matching {_code(about['pattern'])}" if "pattern" in about else ""
    )


def _code(value: Any) -> str:
    """A value in a cell of a table."""
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text.replace('|', chr(92) + '|')}`"


def _cell(text: str) -> str:
    return _one_line(text).replace("|", r"\|").replace("<", r"\<")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def cli_reference() -> str:
    """The reference of the command line: every command with its arguments and options."""
    from typer.main import get_command

    from attrloop.pipelines.cli.main import app

    return "\n".join(["# Command line reference", "", *_command(get_command(app), "attrloop")])


def _command(command: Any, name: str, parent: Any = None) -> Iterator[str]:
    """A command, or a group with everything in it."""
    context = command.context_class(command, info_name=name, parent=parent)
    inner = getattr(command, "commands", {})
    if not inner:
        pieces = (piece.strip("{}") for piece in command.collect_usage_pieces(context))
        yield from (f"## {name}", "", f"    {' '.join([name, *pieces])}", "")
    if not inner or parent is None:
        yield from (command.help or "", "")
    rows = [entry.get_help_record(context) for entry in command.params if not inner]
    if rows := [row for row in rows if row is not None]:
        yield from ("| option | description |", "|---|---|")
        yield from (f"| {_code(option)} | {_cell(about)} |" for option, about in rows)
        yield ""
    for key, one in inner.items():
        yield from _command(one, f"{name} {key}", context)


if __name__ == "__main__":
    print({"config": config_reference, "cli": cli_reference}[sys.argv[1]]())
