"""Checks of what the run talks to: the annotator and the tracking server."""

from contextlib import closing

import httpx2

from attrloop.components.errors import Problem
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import RunConfig
from attrloop.components.storage.local import writable
from attrloop.components.tracking.database import database_file
from attrloop.components.tracking.server import clean_credentials, resolve_uri, shown_uri

_TIMEOUT = 10.0  # seconds


def check_annotator(config: RunConfig) -> Finding:
    """The annotator is one that exists, has a key and can be used."""
    from attrloop.components.annotate.annotators import make_annotator  # their SDKs take a second to import

    finding = Finding("annotator")
    with finding.gathering("annotate"), closing(make_annotator(config.annotate)) as annotator:
        readiness = annotator.check()
        finding.detail, finding.note = readiness.detail, readiness.doubtful
    return finding


def check_tracking(config: RunConfig, workspace: str) -> Finding:
    """The tracking server answers, or the folder of the database file can be written."""
    finding = Finding("tracking")
    with finding.gathering("tracking.uri"):
        uri = resolve_uri(config, workspace)
        clean_credentials(uri)
        finding.detail = shown_uri(uri)
        if uri.startswith(("http://", "https://")):
            finding.problems += _server(uri)
        elif (file := database_file(uri)) is not None:
            finding.problems += writable(file.parent, "tracking.uri")
        elif uri.startswith("file:") or "://" not in uri:
            remedy = "Write sqlite:///<path>/mlflow.db or the address of a server"
            finding.problems.append(
                Problem(f"tracking.uri {shown_uri(uri)}", "MLflow no longer keeps runs in plain folders", remedy)
            )
        else:
            finding.detail, finding.note = f"{shown_uri(uri)} (not tried)", True
    return finding


def _server(uri: str) -> list[Problem]:
    where, remedy = (
        f"tracking.uri {shown_uri(uri)}",
        "Start the MLflow server, or correct tracking.uri or MLFLOW_TRACKING_URI",
    )
    try:
        status = httpx2.get(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT, follow_redirects=True).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return [Problem(where, f"the tracking server is out of reach ({error})", remedy)]
    return (
        []
        if status == 200
        else [Problem(where, f"no healthy MLflow server: GET /health answers HTTP {status}", remedy)]
    )
