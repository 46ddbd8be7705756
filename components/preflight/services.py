"""Checks of what the run talks to: the annotator's key and endpoint, and the tracking server."""

from pathlib import Path

import httpx2

from attrloop.components.annotate.key import read_key
from attrloop.components.errors import Problem
from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import RunConfig
from attrloop.components.storage.local import writable
from attrloop.components.tracking.server import clean_credentials, resolve_uri, shown_uri

_TIMEOUT = 10.0  # seconds


def check_endpoint(config: RunConfig) -> Finding:
    """The key is there and the endpoint accepts it and lists its models."""
    annotate, finding = config.annotate, Finding("annotator")
    where, key = annotate.base_url, ""
    with finding.gathering("annotate.key_env"):
        key = read_key(annotate)
    if not key:
        return finding
    try:
        response = httpx2.get(
            f"{where.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT
        )
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        finding.problems.append(
            Problem(where, f"the endpoint is out of reach ({error})", "Correct annotate.base_url or start the server")
        )
        return finding
    if response.status_code in (401, 403):
        remedy = f"Set the environment variable {annotate.key_env} to a valid key"
        finding.problems.append(Problem(where, f"the key is refused (HTTP {response.status_code})", remedy))
    elif response.status_code != 200:
        what = f"no OpenAI-compatible API: GET /models answers HTTP {response.status_code}"
        finding.problems.append(Problem(where, what, "Correct annotate.base_url; it usually ends in /v1"))
    else:
        names = _models(response)
        listed = any(name == annotate.model or name.endswith(f"/{annotate.model}") for name in names)
        finding.detail = f"{where} answers" + (
            "" if listed else f", but does not list {annotate.model} (it lists {', '.join(names[:5]) or 'nothing'})"
        )
        finding.note = not listed
    return finding


def _models(response: httpx2.Response) -> list[str]:
    try:
        return [str(entry["id"]) for entry in response.json()["data"]]
    except (ValueError, LookupError, TypeError):
        return []


def check_tracking(config: RunConfig, workspace: str) -> Finding:
    """The tracking server answers, or the folder of the database file can be written."""
    finding = Finding("tracking")
    with finding.gathering("tracking.uri"):
        uri = resolve_uri(config, workspace)
        clean_credentials(uri)
        finding.detail = shown_uri(uri)
        if uri.startswith(("http://", "https://")):
            finding.problems += _server(uri)
        elif uri.startswith("sqlite:///"):
            finding.problems += writable(Path(uri.removeprefix("sqlite:///")).absolute().parent, "tracking.uri")
        elif uri.startswith("file:") or "://" not in uri:
            remedy = "Use sqlite:///<path>/mlflow.db or the address of a server"
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
