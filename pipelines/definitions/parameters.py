"""Parameters that several pipelines have in common, told once: KFP wants them flat in every signature, and described in every docstring."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import docstring_parser


@dataclass(frozen=True)
class Parameter:
    default: Any
    about: str


def overrides(component: Any, *prefixes: str) -> dict[str, Parameter]:
    """The parameters of a component that may be left out, as it describes them, by name: those that begin with one of the prefixes, or all."""
    function = component.python_func
    told = {entry.arg_name: entry.description or "" for entry in docstring_parser.parse(function.__doc__).params}
    optional = {
        name: entry.default
        for name, entry in inspect.signature(function).parameters.items()
        if entry.default is not entry.empty
    }
    return {
        name: Parameter(default, told[name]) for name, default in optional.items() if name.startswith(prefixes or "")
    }


def with_parameters(**groups: dict[str, Parameter]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a pipeline's function the parameters of every group; it receives each group as a dict, by the group's name.

        @dsl.pipeline(name="annotate-only")
        @with_parameters(settings=overrides(preflight, "annotate_", "data_"))
        def annotate_only(config: str, workspace: str, *, settings: dict[str, Any]) -> str: ...

    Descriptions are added to the `Args:` of the docstring, of which `Returns:` must be the last section.
    """
    added = {name: entry for group in groups.values() for name, entry in group.items()}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)
        own = [parameter for name, parameter in signature.parameters.items() if name not in groups]
        more = [
            inspect.Parameter(
                name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=entry.default, annotation=type(entry.default)
            )
            for name, entry in added.items()
        ]
        flat = signature.replace(parameters=sorted([*own, *more], key=lambda parameter: parameter.kind))

        @wraps(function)
        def pipeline(*arguments: Any, **named: Any) -> Any:
            given = flat.bind(*arguments, **named).arguments
            taken = {group: {name: given.pop(name) for name in names} for group, names in groups.items()}
            return function(**given, **taken)

        pipeline.__signature__ = flat  # type: ignore[attr-defined]
        head, mark, tail = (inspect.getdoc(function) or "").partition("\n\nReturns:")
        pipeline.__doc__ = head + "".join(f"\n    {name}: {entry.about}" for name, entry in added.items()) + mark + tail
        return pipeline

    return decorate
