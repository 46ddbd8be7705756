"""`attrloop doctor`: is this machine ready, and if not, what to do."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.config import AnnotateConfig, RunConfig, load_config

PACKAGES = ("attrloop", "kfp", "mlflow", "torch", "torchvision", "transformers", "trl", "peft", "polars", "openai")
LEAST_DISK = 5  # GB: a run of the demo takes far less, a hub model and its runs more


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        state: `ok`, `note` (fine for some uses), or `fault`.
        remedy: what to do; "" when there is nothing to do.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


def diagnose(config: Path | None = None) -> bool:
    """Looks at the machine and prints what it finds; with a run config, all that preflight checks follows.

    Returns:
        whether no fault was found.

    Raises:
        InputError: the config is faulty, or preflight found problems.
    """
    loaded = load_config(config) if config else None
    table = Table(box=None)
    for column in ("", "found", "what to do"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "note": "yellow", "fault": "red"}
    findings = list(_findings(loaded.annotate.key_env if loaded else AnnotateConfig().key_env))
    for finding in findings:
        table.add_row(
            f"[{colours[finding.state]}]{finding.state:<5}[/] {finding.what}",
            escape(finding.found),
            escape(finding.remedy),
        )
    Console().print(table)
    if loaded:
        _preflight(loaded)
    return all(finding.state != "fault" for finding in findings)


def _preflight(config: RunConfig) -> None:
    from attrloop.components.preflight.check import as_table, examine

    outcome = examine(config)
    Console().print(as_table(outcome))
    if outcome.problems:
        raise InputError(outcome.problems)


def _findings(key: str) -> Iterator[Finding]:
    supported = (3, 11) <= sys.version_info < (3, 13)
    yield Finding(
        "Python",
        "ok" if supported else "fault",
        platform.python_version(),
        "" if supported else "Use Python 3.11 or 3.12",
    )
    for package in PACKAGES:
        yield _package(package)
    yield _device()
    yield _memory()
    yield _disk(Path.cwd())
    yield _key(key)
    yield _tracking()
    yield _models()


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "fault", "not installed", "Run make setup")


def _device() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("device", "fault", f"torch cannot be imported: {error}", "Run make setup")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("device", "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    remedy = "Fine for the demo; a 3B model wants a GPU (install the CUDA build of torch there)"
    return Finding("device", "note", f"CPU only, {torch.get_num_threads()} threads", remedy)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding(
        "memory", "ok" if total >= 4 else "note", f"{total:.0f} GiB", "" if total >= 4 else "The demo needs about 4 GiB"
    )


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    remedy = "" if free >= LEAST_DISK else f"Free {LEAST_DISK} GB or choose another --runs folder"
    return Finding("disk", "ok" if free >= LEAST_DISK else "fault", f"{free:.0f} GB free at {folder}", remedy)


def _key(name: str) -> Finding:
    if os.environ.get(name):
        return Finding("teacher's key", "ok", f"{name} is set")
    return Finding(
        "teacher's key",
        "note",
        f"{name} is not set",
        f"export {name}=... before a run that needs labels (the demo does not)",
    )


def _tracking() -> Finding:
    from attrloop.components.tracking.server import connect, shown_uri

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return Finding("tracking", "ok", "a database file in the runs folder, unless the run config names a server")
    try:
        connect(uri)
    except AttrloopError as error:
        return Finding("tracking", "fault", str(error), "Start the server, or correct MLFLOW_TRACKING_URI")
    return Finding("tracking", "ok", f"{shown_uri(uri)} answers")


def _models() -> Finding:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in cache.glob("models--*"))
    offline = ", and HF_HUB_OFFLINE is set: no other can be used" if constants.HF_HUB_OFFLINE else ""
    return Finding(
        "hub cache", "note" if offline else "ok", f"{cache}: {', '.join(models[:5]) or 'no models yet'}{offline}"
    )
