"""`attrloop doctor`: whether this machine is ready for runs, and what to do if it is not."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from attrloop.components.console import PlainConsole
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.config import AnnotateConfig, RunConfig
from attrloop.components.run.overrides import resolve

PYTHONS = ((3, 11),)  # those that pyproject.toml allows
PACKAGES = ("attrloop", "kfp", "mlflow", "torch", "torchvision", "transformers", "trl", "peft", "polars", "openai")
LEAST_DISK = 5  # GB: a run of the demo takes far less; a hub model and its runs take more


@dataclass(frozen=True)
class Check:
    """One result.

    Attributes:
        what: the name of what was checked.
        state: `ok`, `note` (fine for some uses), or `fault`.
        found: what was found.
        remedy: what to do; "" if nothing.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


def diagnose(config: Path | None = None, overrides: Mapping[str, Any] | None = None, runs: str = "runs") -> bool:
    """Checks the machine and prints what it finds; with a run config, the checks of preflight follow.

    Args:
        config: the run config (YAML).
        overrides: settings that replace the config's, by dotted name.
        runs: path or URI of the folder that will hold the runs.

    Returns:
        True if no fault was found.

    Raises:
        InputError: the config is faulty, or preflight found problems.
    """
    loaded = resolve(config, overrides) if config else None
    table = Table(box=None)
    for column in ("", "found", "what to do"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "note": "yellow", "fault": "red"}
    checks = list(_checks(loaded.annotate.key_env if loaded else AnnotateConfig().key_env))
    for check in checks:
        state = Text.assemble((f"{check.state:<5}", colours[check.state]), f" {check.what}")
        table.add_row(state, check.found, check.remedy)
    PlainConsole().print(table)
    if loaded:
        _preflight(loaded, runs)
    return all(check.state != "fault" for check in checks)


def _preflight(config: RunConfig, runs: str) -> None:
    from attrloop.components.preflight.check import as_table, examine

    outcome = examine(config, runs=runs)
    PlainConsole().print(as_table(outcome))
    if outcome.problems:
        raise InputError(outcome.problems)


def _checks(key: str) -> Iterator[Check]:
    supported = sys.version_info[:2] in PYTHONS
    yield Check(
        "Python",
        "ok" if supported else "fault",
        platform.python_version(),
        "" if supported else f"Use Python {' or '.join(f'{major}.{minor}' for major, minor in PYTHONS)}",
    )
    for package in PACKAGES:
        yield _package(package)
    yield _device()
    yield _memory()
    yield _disk(Path.cwd())
    yield _key(key)
    yield _tracking()
    yield _models()


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "fault", "not installed", "Run make setup")


def _device() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("device", "fault", f"torch cannot be imported: {error}", "Run make setup")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Check("device", "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    remedy = "Fine for the demo; a 3B model needs a GPU (install the CUDA build of torch there)"
    return Check("device", "note", f"CPU only, {torch.get_num_threads()} threads", remedy)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Check(
        "memory", "ok" if total >= 4 else "note", f"{total:.0f} GiB", "" if total >= 4 else "The demo needs about 4 GiB"
    )


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 1e9
    remedy = "" if free >= LEAST_DISK else f"Free {LEAST_DISK} GB or choose another --runs folder"
    return Check("disk", "ok" if free >= LEAST_DISK else "fault", f"{free:.0f} GB free at {folder}", remedy)


def _key(name: str) -> Check:
    if os.environ.get(name):
        return Check("annotator's key", "ok", f"{name} is set")
    return Check(
        "annotator's key",
        "note",
        f"{name} is not set",
        f"export {name}=... before a run that needs labels (the demo does not)",
    )


def _tracking() -> Check:
    from attrloop.components.tracking.server import connect, shown_uri

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return Check("tracking", "ok", "a database file in the runs folder, unless the run config names a server")
    try:
        connect(uri)
    except AttrloopError as error:
        return Check("tracking", "fault", str(error), "Start the server, or correct MLFLOW_TRACKING_URI")
    return Check("tracking", "ok", f"{shown_uri(uri)} answers")


def _models() -> Check:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in cache.glob("models--*"))
    offline = ", and HF_HUB_OFFLINE is set: no other can be used" if constants.HF_HUB_OFFLINE else ""
    return Check(
        "hub cache", "note" if offline else "ok", f"{cache}: {', '.join(models[:5]) or 'no models yet'}{offline}"
    )
