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
from rich.table import Table

from attrloop.components.shared.config import AnnotateConfig, RunConfig, load_config
from attrloop.components.shared.errors import AttrloopError

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


def examine(config: Path | None = None) -> bool:
    """Looks at the machine, with a run config also at what that run needs; prints the findings.

    Returns:
        whether no fault was found.

    Raises:
        InputError: the config is faulty.
    """
    loaded = load_config(config) if config else None
    table = Table(box=None)
    for column in ("", "found", "what to do"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "note": "yellow", "fault": "red"}
    findings = list(_findings(loaded))
    for finding in findings:
        table.add_row(f"[{colours[finding.state]}]{finding.state:<5}[/] {finding.what}", finding.found, finding.remedy)
    Console().print(table)
    return all(finding.state != "fault" for finding in findings)


def _findings(config: RunConfig | None) -> Iterator[Finding]:
    supported = (3, 11) <= sys.version_info < (3, 13)
    yield Finding("Python", "ok" if supported else "fault", platform.python_version(), "" if supported else "Use Python 3.11 or 3.12")
    for package in PACKAGES:
        yield _package(package)
    yield _device()
    yield _memory()
    yield _disk(Path.cwd())
    yield _key(config.annotate if config else AnnotateConfig())
    yield _tracking(config)
    yield _model(config)


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
    return Finding("memory", "ok" if total >= 4 else "note", f"{total:.0f} GiB", "" if total >= 4 else "The demo needs about 4 GiB")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    remedy = "" if free >= LEAST_DISK else f"Free {LEAST_DISK} GB or choose another --runs folder"
    return Finding("disk", "ok" if free >= LEAST_DISK else "fault", f"{free:.0f} GB free at {folder}", remedy)


def _key(config: AnnotateConfig) -> Finding:
    name = config.key_env
    if os.environ.get(name):
        return Finding("teacher's key", "ok", f"{name} is set")
    return Finding("teacher's key", "note", f"{name} is not set", f"export {name}=... before a run that needs labels (the demo does not)")


def _tracking(config: RunConfig | None) -> Finding:
    from attrloop.components.shared.tracking import connect, is_server, shown_uri

    uri = (config.tracking.uri if config else "") or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return Finding("tracking", "ok", "a database file in the runs folder")
    if not is_server(uri):
        return Finding("tracking", "ok", shown_uri(uri))
    try:
        connect(uri)
    except AttrloopError as error:
        return Finding("tracking", "fault", str(error), "Start the server, or correct tracking.uri or MLFLOW_TRACKING_URI")
    return Finding("tracking", "ok", f"{shown_uri(uri)} answers")


def _model(config: RunConfig | None) -> Finding:
    from huggingface_hub import constants, try_to_load_from_cache

    cache = Path(constants.HF_HUB_CACHE)
    if config is None:
        models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in cache.glob("models--*"))
        return Finding("hub cache", "ok", f"{cache}: {', '.join(models[:5]) or 'no models yet'}")
    base = config.model.base
    if Path(base).is_dir():
        return Finding("base model", "ok", base)
    if isinstance(try_to_load_from_cache(base, "config.json", revision=config.model.revision), str):
        return Finding("base model", "ok", f"{base} is in {cache}")
    if constants.HF_HUB_OFFLINE:
        return Finding("base model", "fault", f"{base} is not in {cache}", "HF_HUB_OFFLINE is set: unset it, or copy the model there")
    return Finding("base model", "note", f"{base} is not in {cache} yet", "It is downloaded when the run starts")
