"""Where the MLflow tracking store is, and how to reach it."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrloop.components.errors import AttrloopError, fail
from attrloop.components.run.config import RunConfig
from attrloop.components.secrets import CREDENTIALS, secret
from attrloop.components.tracking.database import artifact_folder, database_file, database_uri, prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Without this tag, MLflow's menu of the experiment lacks the training runs.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
# MLflow's own defaults wait for minutes when a server is down.
_PROBE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_PROBING = threading.Lock()  # threads share the environment
_URI = "MLFLOW_TRACKING_URI"
# MLflow reads these for every request.
_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def runs_folder(root: str) -> str:
    """The parent of a run's workspace: it holds all runs, the embedded MLflow store and the promotions ledger."""
    return root.rstrip("/").rpartition("/")[0]


def resolve_uri(config: RunConfig, root: str) -> str:
    """The URI of the tracking store.

    It is the config's `tracking.uri`; if that is empty, the environment's MLFLOW_TRACKING_URI; if that is not set
    either, a database file in the runs folder.

    Args:
        config: the run's config.
        root: URI of the workspace.

    Raises:
        InputError: the server's address holds a user or password, which MLflow would print with every run.
        AttrloopError: neither is set, and a remote workspace has no place for a database file.
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
        what = f"no tracking server for the remote workspace {root}"
        raise AttrloopError(f"{what}: set tracking.uri in the config or {_URI} in the environment")
    return database_uri(Path(root).absolute().parent / "mlflow.db")


def shown_uri(uri: str) -> str:
    """The URI without user and password, for messages and records."""
    return CREDENTIALS.sub("", uri)


def clean_credentials(uri: str) -> None:
    """Cleans the credentials in the environment, e.g. of a trailing line break.

    MLflow reads the environment itself, and would show a credential that cannot be sent in its error.

    Raises:
        InputError: see `secret`.
    """
    if uri.startswith("http"):
        os.environ.update({name: secret(name, encoded=name != _SECRETS[0]) for name in _SECRETS if name in os.environ})


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns errors of MLflow inside the context into an `AttrloopError` that names the tracking store.

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
    """A client of the tracking store and model registry at `uri`, once a first request was answered.

    An embedded database that does not exist is created, which takes some seconds.

    Raises:
        InputError: see `clean_credentials`.
        AttrloopError: the server does not answer within seconds, or MLflow does not support the URI.
    """
    from mlflow import MlflowClient

    _prepare(uri)
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


def _prepare(uri: str) -> None:
    if (file := database_file(uri)) is not None:
        with explained(uri):
            prepare(file)


def _restore(values: dict[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


@contextmanager
def fluent(uri: str) -> Iterator[None]:
    """Points MLflow's module-level functions, which log and load models, at `uri` for as long as the context lasts."""
    import mlflow

    _prepare(uri)

    names = (_URI, "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    before = {key: os.environ.get(key) for key in names}
    for key in names[1:3]:  # an orchestrator's run is joined on purpose (`injected_run`), never by accident
        os.environ.pop(key, None)
    os.environ.setdefault(names[3], "false")
    mlflow.set_tracking_uri(uri)
    try:
        with warnings.catch_warnings():
            # An input example would load the base model while logging.
            warnings.filterwarnings("ignore", message=".*input example was not provided.*")
            yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type] # back to the environment, where setting a URI leaves it too
        _restore(before)


def lookup(uri: str, experiment: str) -> str:
    """The state of an experiment on a server: `active`, `deleted`, or "" where there is none.

    Raises:
        AttrloopError: the server does not answer, or refuses to.
    """
    client = connect(uri)
    with explained(uri):
        found = client.get_experiment_by_name(experiment)
    return "" if found is None else found.lifecycle_stage


def experiment_id(client: "MlflowClient", uri: str, name: str) -> str:
    """Id of the experiment, which is created if it does not exist.

    Artifacts of an embedded database lie beside it.

    Raises:
        AttrloopError: an experiment of this name was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        file = database_file(uri)
        location = artifact_folder(file) if file else None
        try:
            return client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException:  # another process has just created it
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise AttrloopError(
            f"the experiment {name!r} was deleted at {shown_uri(uri)}: restore it, or set another tracking.experiment"
        )
    return found.experiment_id


def injected_run(uri: str) -> str:
    """Id of the run that an orchestrator created for this one on this tracking server; "" for none.

    Kubeflow sets MLFLOW_RUN_ID.
    """
    return os.environ.get("MLFLOW_RUN_ID", "") if os.environ.get(_URI, "") == uri else ""
