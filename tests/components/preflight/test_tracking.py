"""What MLflow would refuse after the training is known before it."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from attrloop.components.errors import InputError
from attrloop.components.preflight.check import examine
from attrloop.components.run.config import load_config
from attrloop.components.tracking.database import database_uri
from attrloop.components.tracking.server import connect
from tests.emulator import Gateway


def said(shop, workspace: Path | None = None) -> str:
    return "\n".join(map(str, examine(shop.config(), str(workspace or shop.folder.parent / "runs" / "run")).problems))


def broken(file: Path) -> None:
    file.write_text("not a database\n" * 200)


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def deleted(file: Path) -> None:
    client = connect(database_uri(file))
    client.delete_experiment(client.create_experiment("attrloop"))


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "it is no database": (broken, "not a database that can be used"),
    "a newer MLflow wrote it": (newer, "a newer MLflow has written this database"),
    "its experiment was deleted": (deleted, "tracking.experiment 'attrloop': this experiment was deleted at sqlite"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_database_that_cannot_take_the_run_is_a_problem(shop, kind: str, empty_store: Path) -> None:
    spoil, message = SPOILED[kind]
    runs = shop.folder.parent / "runs what?%20"
    runs.mkdir()
    file = Path(shutil.copy(empty_store, runs / "mlflow.db"))
    assert said(shop, runs / "run") == ""
    spoil(file)
    before = file.read_bytes()
    assert message in said(shop, runs / "run")
    assert file.read_bytes() == before and {found.name for found in runs.glob("mlflow.db*")} == {"mlflow.db"}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mssql://127.0.0.1:9/mlflow", "needs the Python package pyodbc, which is not installed. Install it"),
        ("mysql+nodriver://127.0.0.1:9/mlflow", "this database cannot be opened (Can't load plugin"),
        ("mysql+pymysql://someone:hunter2@127.0.0.1:9/mlflow", "hunter"),
        ("htps://mlflow.example", "'htps' is no kind of store that MLflow knows. Write the address of a server"),
        ("sqlite:////data/what?x/mlflow.db", "only the part before '?' would be the file's path"),
        ("sqlite://mlflow.db", "not the URI of a database file"),
    ],
)
def test_a_store_that_cannot_be_opened_by_its_name_is_a_problem(
    shop, uri: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    text = said(shop)
    assert "tracking.uri" in text
    assert message not in text if message == "hunter" else message in text


def test_an_experiment_that_was_deleted_on_a_server_is_a_problem(shop, server) -> None:
    shop.set("tracking", uri=server.url)
    assert said(shop) == ""
    server.experiment = {"experiment_id": "3", "name": "attrloop", "lifecycle_stage": "deleted"}
    assert f"this experiment was deleted at {server.url}. Restore it in MLflow" in said(shop)


@pytest.mark.parametrize(
    "name", ["shops/adapter", "a:b", "a@b", "a?b", "a#b", "a\nb", "", " ", "..", "../x", "x" * 257]
)
def test_a_name_that_mlflow_refuses_for_a_model_is_refused_with_its_line(shop, name: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_model_name

    shop.set("tracking", model_name=name)
    with pytest.raises(InputError, match=r"run\.yaml:\d+ \(tracking\.model_name\): MLflow takes n"):
        load_config(shop.file())
    if not set(name) & set("@?#\n") and len(name) < 257:  # MLflow takes these, and finds no models:/NAME/1 by them
        with pytest.raises(MlflowException):
            _validate_model_name(name)


@pytest.mark.parametrize("name", ["", "  ", "x" * 501])
def test_a_name_that_mlflow_refuses_for_an_experiment_is_refused_with_its_line(shop, name: str) -> None:
    shop.set("tracking", experiment=name)
    with pytest.raises(InputError, match=r"run\.yaml:\d+ \(tracking\.experiment\): MLflow takes names"):
        load_config(shop.file())


def test_a_ledger_that_takes_no_entry_is_a_problem_of_a_run_that_promotes(shop, tmp_path: Path) -> None:
    shop.set("tracking", model_name="my model")
    runs = tmp_path / "runs"
    runs.mkdir()
    assert not (problems := examine(shop.config(), str(runs / "run")).problems), problems
    (runs / "promotions").touch()
    (problem,) = examine(shop.config(), str(runs / "run")).problems
    assert (
        problem.where == str(runs / "promotions" / "my model") and "Grant the right to create files" in problem.remedy
    )
    assert not examine(shop.config(), str(runs / "run"), promotes=False).problems


def test_a_runs_folder_that_refuses_removal_is_a_problem_though_the_workspace_does_not(
    shop, server, faulty: Gateway, bucket: str
) -> None:
    shop.set("tracking", uri=server.url)
    faulty.refuse = lambda method, path: 403 if method == "DELETE" and "runs%2F.tmp" in path else None
    text = "\n".join(map(str, examine(shop.config(), f"{bucket}/runs/run").problems))
    assert text.startswith(f"{bucket}/runs: files cannot be removed here (") and "\n" not in text
