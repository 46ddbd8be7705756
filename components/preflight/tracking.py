"""Checks of MLflow before anything is trained: the store can be opened by its name, and takes the run's names."""

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points
from typing import Any

import httpx2

from attrloop.components.errors import Problem
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import RunConfig
from attrloop.components.storage.local import writable
from attrloop.components.tracking.database import database_file, examine_file
from attrloop.components.tracking.server import clean_credentials, lookup, resolve_uri, shown_uri

_TIMEOUT = 10  # seconds
_DATABASES = ("postgresql", "mysql", "mssql")  # those of MLflow that are no file
_ELSEWHERE = ("databricks", "databricks-uc", "uc")  # MLflow's own, which need an account
_REMEDY = "Correct tracking.uri or MLFLOW_TRACKING_URI"


def check_tracking(config: RunConfig, workspace: str) -> Finding:
    """The tracking store can be opened by its name, and its experiment is there or can be made."""
    finding = Finding("tracking")
    with finding.gathering("tracking.uri"):
        uri = resolve_uri(config, workspace)
        clean_credentials(uri)
        finding.detail = shown_uri(uri)
        finding.problems += _opened(uri, config.tracking.experiment, finding)
    return finding


def _opened(uri: str, experiment: str, finding: Finding) -> Iterator[Problem]:
    where, scheme = f"tracking.uri {shown_uri(uri)}", uri.partition(":")[0].partition("+")[0]
    file = database_file(uri)
    if uri.startswith(("http://", "https://")):
        yield from _server(uri, where) or _experiment(uri, experiment)
    elif file is not None:
        problems = writable(file.parent, "tracking.uri") or examine_file(file)
        yield from problems or (_database(uri, where, experiment) if file.exists() else [])
    elif uri.startswith("file:") or "://" not in uri:
        remedy = "Use sqlite:///<path>/mlflow.db or the address of a server"
        yield Problem(where, "MLflow no longer keeps runs in plain folders", remedy)
    elif scheme in _DATABASES:
        yield from _database(uri, where, experiment)
    elif scheme in _ELSEWHERE or scheme in {found.name for found in entry_points(group="mlflow.tracking_store")}:
        finding.detail, finding.note = f"{shown_uri(uri)} (not tried)", True
    else:
        remedy = f"Write the address of a server (https://...) or a database ({', '.join(('sqlite', *_DATABASES))})"
        yield Problem(where, f"{scheme!r} is no kind of store that MLflow knows", remedy)


def _server(uri: str, where: str) -> list[Problem]:
    remedy = "Start the MLflow server, or correct tracking.uri or MLFLOW_TRACKING_URI"
    try:
        status = httpx2.get(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT, follow_redirects=True).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return [Problem(where, f"the tracking server is out of reach ({error})", remedy)]
    return (
        []
        if status == 200
        else [Problem(where, f"no healthy MLflow server: GET /health answers HTTP {status}", remedy)]
    )


def _experiment(uri: str, name: str) -> list[Problem]:
    return _deleted(lookup(uri, name), name, shown_uri(uri))


def _database(uri: str, where: str, experiment: str) -> list[Problem]:
    """Opens a database as MLflow will; nothing is made in it."""
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    # The drivers of the others know no such argument.
    waits = {"connect_timeout": _TIMEOUT} if uri.startswith(("postgresql", "mysql")) else {}
    try:
        engine = create_engine(uri, connect_args=waits)
        with ExitStack() as closed, engine.connect() as connection:
            closed.callback(engine.dispose)
            if not inspect(connection).has_table("experiments"):
                return []
            query = text("SELECT lifecycle_stage FROM experiments WHERE name = :name")
            stage: Any = connection.execute(query, {"name": experiment}).scalar()
    except ModuleNotFoundError as error:
        return [Problem(where, f"needs the Python package {error.name}, which is not installed", "Install it")]
    except (SQLAlchemyError, ValueError, UnicodeError) as error:
        first = shown_uri((str(error).splitlines() or [type(error).__name__])[0])
        return [Problem(where, f"this database cannot be opened ({first})", _REMEDY)]
    return _deleted(str(stage or ""), experiment, shown_uri(uri))


def _deleted(stage: str, experiment: str, uri: str) -> list[Problem]:
    if stage != "deleted":
        return []
    remedy = "Restore it in MLflow, or set another tracking.experiment"
    return [Problem(f"tracking.experiment {experiment!r}", f"this experiment was deleted at {uri}", remedy)]
