"""MLflow as attrloop uses it: where it is, how it is reached, how things are named, and which code made a run.

MLflow itself is imported inside the functions, so that a command line that never tracks anything does not wait for it.
"""

import getpass
import os
import re
import subprocess
import threading
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from attrloop.components.digests import digest
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.run.config import RunConfig
from attrloop.components.secrets import CREDENTIALS, secret

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE, CHAMPION = "candidate", "champion"  # aliases of the registered model
_KIND = {
    "mlflow.experimentKind": "custom_model_development"
}  # without it MLflow's menu for the experiment lacks the training runs
_PROBE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}  # MLflow's own defaults wait minutes for a server that is away
_PROBING = threading.Lock()  # the environment is the whole process's
_URI = "MLFLOW_TRACKING_URI"
_SECRETS = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)  # MLflow reads them for every request


def runs_folder(root: str) -> str:
    """The folder that holds a run's workspace, its siblings, the embedded MLflow store and the promotions ledger."""
    return root.rstrip("/").rpartition("/")[0]


def resolve_uri(config: RunConfig, root: str) -> str:
    """Where runs are tracked.

    Args:
        config: `tracking.uri` wins when it is set; then the environment's MLFLOW_TRACKING_URI; then a database file in the runs folder.
        root: URI of the workspace.

    Raises:
        InputError: MLFLOW_TRACKING_URI is a server's address with a user or password, which MLflow prints with every run.
        AttrloopError: none is set and the workspace is not local, so that there is no place for a database file.
    """
    uri = config.tracking.uri or os.environ.get(_URI, "")
    if uri.startswith("http") and shown_uri(uri) != uri:
        raise fail(
            _URI,
            "holds a user or password, which logs would show",
            f"Leave them out and set {_SECRETS[1]} and {_SECRETS[2]}",
        )
    if uri:
        return uri
    if "://" in root:
        raise AttrloopError(
            f"no tracking server for the remote workspace {root}: set tracking.uri in the config or {_URI} in the environment"
        )
    return f"sqlite:///{runs_folder(root)}/mlflow.db"


def shown_uri(uri: str) -> str:
    """The URI without user and password, for messages and records."""
    return CREDENTIALS.sub("", uri)


def clean_credentials(uri: str) -> None:
    """Puts what MLflow authenticates with into a form that can be sent: MLflow reads the environment itself, and its errors show what cannot.

    Raises:
        InputError: see `secret`.
    """
    if uri.startswith("http"):
        os.environ.update({name: secret(name, encoded=name != _SECRETS[0]) for name in _SECRETS if name in os.environ})


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns whatever MLflow raises inside into an `AttrloopError` that names the tracking store.

    Raises:
        InputError: see `clean_credentials`.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    clean_credentials(uri)
    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        first = shown_uri(str(error).splitlines()[0])[:300] if str(error) else type(error).__name__
        raise AttrloopError(
            f"MLflow at {shown_uri(uri)} failed: {first}. Check that it is up and that tracking.uri or {_URI} is right."
        ) from error


def connect(uri: str) -> "MlflowClient":
    """A client of the tracking store and model registry at `uri`, after a first request has been answered.

    An embedded database is made when it does not exist (some seconds).

    Raises:
        InputError: see `clean_credentials`.
        AttrloopError: the server does not answer within seconds, or the URI is not one of MLflow's.
    """
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).absolute().parent.mkdir(parents=True, exist_ok=True)
    with _PROBING:
        before = {key: os.environ.get(key) for key in _PROBE}
        os.environ.update({key: os.environ.get(key, value) for key, value in _PROBE.items()})
        try:
            with explained(uri):
                client = MlflowClient(uri)
                client.search_experiments(max_results=1)
        finally:
            _restore(before)
    return client


def _restore(values: dict[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


@contextmanager
def fluent(uri: str) -> Iterator[None]:
    """Points MLflow's module-level functions, which log and load models, at `uri`; afterwards they point where they did before."""
    import mlflow

    names = (_URI, "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    before = {key: os.environ.get(key) for key in names}
    for key in names[1:3]:  # an orchestrator's run: joined by whoever asks for it, never by accident
        os.environ.pop(key, None)
    os.environ.setdefault(names[3], "false")
    mlflow.set_tracking_uri(uri)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*input example was not provided.*"
            )  # one would load the base model while logging
            yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type] # back to the environment, where setting a URI leaves it too
        _restore(before)


def experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """Id of the experiment, made when there is none; its artifacts lie beside an embedded database.

    Raises:
        AttrloopError: an experiment of this name was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = (
            Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts"
            if uri.startswith("sqlite:///")
            else None
        )
        try:
            return client.create_experiment(name, artifact_location=location.as_uri() if location else None, tags=_KIND)
        except MlflowException:  # somebody else was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise AttrloopError(
            f"the experiment {name!r} was deleted at {shown_uri(uri)}: restore it, or set another tracking.experiment"
        )
    return found.experiment_id


def injected_run(uri: str) -> str:
    """Id of the run that an orchestrator made for us on this very tracking server (Kubeflow injects MLFLOW_RUN_ID); "" for none."""
    return os.environ.get("MLFLOW_RUN_ID", "") if os.environ.get(_URI, "") == uri else ""


def slug(text: str) -> str:
    """A name that metrics, tags and file names accept: lower-case ASCII letters, digits, '-', '_' and '.'; never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_.]+", "-", plain).strip("-.")[:100] or digest(text)[:8]


def slugs(names: Iterable[str]) -> dict[str, str]:
    """A distinct slug for each name: those that would fall together carry a digest."""
    plain = {name: slug(name) for name in names}
    taken = list(plain.values())
    return {name: short if taken.count(short) == 1 else f"{short}-{digest(name)[:6]}" for name, short in plain.items()}


def actor() -> str:
    """Who runs this: the user's name, or `unknown` where the system has none (a numbered user in a container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@cache
def code_digest() -> str:
    """What code is running: the commit when the package is an unchanged git checkout, else a digest of its source (with the commit it departs from)."""
    folder = Path(__file__).parents[1]
    source = digest(
        [[str(path.relative_to(folder)), path.read_text(encoding="utf-8")] for path in sorted(folder.rglob("*.py"))]
    )
    commit = git_sha()
    if not commit:
        return source
    return f"{commit}+{source}" if _git("status", "--porcelain", "--", ".") else commit


@cache
def git_sha() -> str:
    """The commit that the package is checked out from; else what ATTRLOOP_REVISION says, as it does in an image, or ""."""
    tracked = _git(
        "ls-files", "--error-unmatch", "tracking/server.py"
    )  # a virtual environment can lie inside a stranger's repository
    return _git("rev-parse", "HEAD") if tracked else os.environ.get("ATTRLOOP_REVISION", "")


def _git(*command: str) -> str:
    try:
        done = subprocess.run(
            ["git", *command], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
