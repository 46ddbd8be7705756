import os
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import mlflow
import pytest

from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.run.config import RunConfig, TrackingConfig
from attrloop.components.tracking.server import (
    connect,
    experiment_id,
    explained,
    fluent,
    injected_run,
    resolve_uri,
    shown_uri,
)


def config(uri: str = "") -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"catalogue_schema": "s", "listings": "l"},
            "model": {"base": "b"},
            "tracking": TrackingConfig(uri=uri),
        }
    )


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_the_config_wins_over_the_environment_and_the_environment_over_the_runs_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(config(), "/data/runs/today") == "sqlite:////data/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert resolve_uri(config(), "/data/runs/today") == "http://server"
    assert resolve_uri(config("http://other"), "/data/runs/today") == "http://other"


def test_a_remote_workspace_needs_a_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(AttrloopError, match=r"tracking\.uri"):
        resolve_uri(config(), "gs://bucket/runs/today")


@pytest.mark.slow
def test_a_server_that_is_away_is_told_within_seconds_and_without_its_password() -> None:
    before, began = dict(os.environ), time.monotonic()
    with pytest.raises(AttrloopError) as caught:
        connect(f"http://someone:secret@127.0.0.1:{closed_port()}")
    assert time.monotonic() - began < 20
    assert (
        "127.0.0.1" in str(caught.value) and "tracking.uri" in str(caught.value) and "secret" not in str(caught.value)
    )
    assert dict(os.environ) == before, "the short timeouts are for the first request only"


def test_an_address_with_a_password_is_refused_before_mlflow_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://someone:secret@mlflow.example")
    with pytest.raises(
        InputError, match=r"MLFLOW_TRACKING_URI: .*set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    ) as caught:
        resolve_uri(config(), "/data/runs/today")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://someone:secret@db/mlflow")
    assert resolve_uri(config(), "/data/runs/today") == "postgresql://someone:secret@db/mlflow", (
        "a database has no other way"
    )


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://a:b@host:5000/x", "http://host:5000/x"),
        ("http://a:b@c@host", "http://host"),
        ("http://a:b c@host", "http://host"),
        ("postgresql://a:b/c@host/db", "postgresql://host/db"),
        ("postgresql://host/db?user=a&password=b&sslmode=c", "postgresql://host/db?user=a&password=&sslmode=c"),
        ("http://host:5000/x@y", "http://host:5000/x@y"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_what_is_shown_of_an_address_lets_nobody_in(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str | None]]]:
    """The URL of a server that answers nothing, and the Authorization headers of its requests."""
    headers: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers.append(self.headers["Authorization"])
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}", headers
    http.shutdown()
    http.server_close()


def test_a_secrets_last_line_break_is_not_sent(
    asked: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, headers = asked
    for secrets, sent in (
        ({"USERNAME": "bob\n", "PASSWORD": "hunter2\n"}, f"Basic {b64encode(b'bob:hunter2').decode()}"),
        ({"TOKEN": "tok-1\n"}, "Bearer tok-1"),
    ):
        for name in ("TOKEN", "USERNAME", "PASSWORD"):
            monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
        for name, value in secrets.items():
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
        with pytest.raises(AttrloopError, match="404"):
            connect(uri)
        assert set(headers) == {sent}
        headers.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-2\n")
    with explained(uri):
        assert os.environ["MLFLOW_TRACKING_TOKEN"] == "tok-2", "a process that does not connect by itself"


@pytest.mark.parametrize("name", ["TOKEN", "USERNAME", "PASSWORD"])
def test_a_secret_of_two_lines_is_named_and_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "hunter2\nhunter2")
    with pytest.raises(InputError, match=f"the environment variable MLFLOW_TRACKING_{name}: ") as caught:
        connect(f"http://127.0.0.1:{closed_port()}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "ftp://host/store"])
def test_a_uri_that_mlflow_does_not_take_is_explained(uri: str) -> None:
    with pytest.raises(AttrloopError, match="MLflow at"):
        connect(uri)


def test_an_embedded_store_keeps_its_artifacts_beside_it(runs: Path) -> None:
    uri = f"sqlite:///{runs}/mlflow.db"
    client = connect(uri)
    made = experiment_id(client, uri, "mine")
    assert experiment_id(client, uri, "mine") == made
    assert client.get_experiment(made).artifact_location == (runs / "mlartifacts").as_uri()


def test_a_deleted_experiment_is_named(runs: Path) -> None:
    uri = f"sqlite:///{runs}/mlflow.db"
    client = connect(uri)
    client.delete_experiment(experiment_id(client, uri, "mine"))
    with pytest.raises(AttrloopError, match="'mine' was deleted"):
        experiment_id(client, uri, "mine")


def test_fluent_calls_go_to_the_store_and_nothing_of_it_stays(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "of-an-orchestrator")
    before, uri = (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")), f"sqlite:///{runs}/mlflow.db"
    with fluent(uri):
        assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == uri
        assert "MLFLOW_RUN_ID" not in os.environ
    assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before
    assert os.environ["MLFLOW_RUN_ID"] == "of-an-orchestrator"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://later")
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == "http://later", "the environment is heard again"


def test_a_run_is_joined_only_on_the_server_it_was_made_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert injected_run("http://server") == "abc"
    assert injected_run("sqlite:////runs/mlflow.db") == ""
