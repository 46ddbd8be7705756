"""Environment variables: each is read by something, and secrets come by reference."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attrloop.components.errors import Problem
from manifests.check.build import ROOT, Document, containers, name_of, of_kind

_SECRETIVE = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|API[-_]?KEY|PRIVATE", re.IGNORECASE)
_WITH_PASSWORD = re.compile(r"://[^/@:\s]+:(?!\$\()[^/@\s]+@")
_EXPANDED = re.compile(r"(?<!\$)\$\((\w+)\)")
_ANYTHING = {"HOME", "XDG_CACHE_HOME", "TMPDIR"}
# Programs that cannot be asked which variables they read; these are from their documentation.
_POSTGRES = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "POSTGRES_INITDB_ARGS", "PGDATA"}
_VLLM = {
    "VLLM_API_KEY",
    "VLLM_CACHE_ROOT",
    "VLLM_NO_USAGE_STATS",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "TRITON_CACHE_DIR",
}


def by_reference(documents: list[Document]) -> Iterator[Problem]:
    """No manifest contains a secret: not as a resource, not as the value of a variable, not inside a URL."""
    yield from (
        Problem(name_of(one), "a secret in the manifests", "Let the operator make it, or make it by hand")
        for one in of_kind(documents, "Secret")
    )
    for where, _, container in containers(documents):
        for entry in container.get("env", []):
            if "value" in entry and (_SECRETIVE.search(entry["name"]) or _WITH_PASSWORD.search(entry["value"])):
                yield Problem(f"{where}: {entry['name']}", "a secret as a value", "Use valueFrom.secretKeyRef")
        for argument in [*container.get("command", []), *container.get("args", [])]:
            if _WITH_PASSWORD.search(argument) or re.search(
                rf"--\S*({_SECRETIVE.pattern})\S*[= ](?!\$\()", argument, re.IGNORECASE
            ):
                yield Problem(where, "a secret in the command", "Use a variable with valueFrom.secretKeyRef")
    for one in of_kind(documents, "ConfigMap"):
        yield from (
            Problem(f"{name_of(one)}: {key}", "a secret in a ConfigMap", "Use a secret")
            for key in one.get("data", {})
            if _SECRETIVE.search(key)
        )


def known_variables(documents: list[Document]) -> Iterator[Problem]:
    """Every variable has a value and a reader in the image; what a value or a command mentions is set before it."""
    for where, _, container in containers(documents):
        entries, known = container.get("env", []), _read_by(container["image"])
        for k, entry in enumerate(entries):
            name, before = entry["name"], {other["name"] for other in entries[:k]}
            mentioned = set(_EXPANDED.findall(entry.get("value", "")))
            if not entry.get("value") and "valueFrom" not in entry:
                yield Problem(f"{where}: {name}", "has no value", "Set it in the overlay")
            if name not in known | set(_EXPANDED.findall(str(entries))):
                yield Problem(f"{where}: {name}", "nothing in the image reads it", "Correct the name")
            yield from (
                Problem(f"{where}: {name}", f"$({other}) is not set before it", "Move it up")
                for other in sorted(mentioned - before)
            )
        commands = set(_EXPANDED.findall(str([*container.get("command", []), *container.get("args", [])])))
        yield from (
            Problem(where, f"$({name}) is not set", "Add the variable")
            for name in sorted(commands - {entry["name"] for entry in entries})
        )


def _read_by(image: str) -> set[str]:
    program = image.partition("@")[0].rpartition("/")[2]
    other = [names for name, names in {"postgres": _POSTGRES, "sampler": _VLLM}.items() if program.endswith(name)]
    return _ANYTHING | (other[0] if other else _ours() | _mlflows())


@cache
def _ours() -> set[str]:
    source = "\n".join(
        file.read_text(encoding="utf-8")
        for folder in ("components", "pipelines")
        for file in Path(ROOT.parent, folder).rglob("*.py")
    )
    return set(re.findall(r"""["']([A-Z][A-Z0-9]*_[A-Z0-9_]+)["']""", source))


@cache
def _mlflows() -> set[str]:
    from mlflow import environment_variables
    from mlflow.cli import server

    return {one.name for one in vars(environment_variables).values() if hasattr(one, "name")} | {
        str(option.envvar) for option in server.params if option.envvar
    }
