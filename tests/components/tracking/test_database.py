import multiprocessing
import shutil
import sqlite3
import time
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from attrloop.components.errors import InputError
from attrloop.components.tracking.database import database_file, database_uri, prepare
from attrloop.components.tracking.server import connect, experiment_id

NAMES = ("my%20shop", "what?x", "a#b", "shop[2]", "Läden 中文", 'it\'s "big"', "-dash", "two\nlines", "a&b=c;d", "x:")
MOMENTS = 12
USERS = multiprocessing.get_context("forkserver")
USERS.set_forkserver_preload(
    ["pytest", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "attrloop.components.tracking.server"]
)  # users begin at once, without the seconds that imports take


def use(file: Path, run: str) -> None:
    """What a user of the database does first."""
    uri = database_uri(file)
    client = connect(uri)
    client.create_run(experiment_id(client, uri, "attrloop"), run_name=run)


def started(file: Path, run: str) -> BaseProcess:
    user = USERS.Process(target=use, args=(file, run))
    user.start()
    return user


def begun(user: BaseProcess, folder: Path, file: str = "") -> float:
    """Waits until a user has made a file in a folder, any or the one of this name; returns the time."""
    while not any(found.name == file or not file for found in folder.iterdir()):
        assert user.is_alive()
        time.sleep(0.001)
    return time.monotonic()


def runs(file: Path) -> set[str]:
    client = connect(database_uri(file))
    return {run.info.run_name for run in client.search_runs([e.experiment_id for e in client.search_experiments()])}


@pytest.mark.parametrize("name", NAMES)
def test_a_database_is_opened_by_its_name_and_its_artifacts_lie_beside_it(
    name: str, tmp_path: Path, empty_store: Path
) -> None:
    folder = tmp_path / "shops" / name
    folder.mkdir(parents=True)
    file = Path(shutil.copy(empty_store, folder / "mlflow.db"))
    uri = database_uri(file)
    assert database_file(uri) == file

    use(file, "first")
    client = connect(uri)
    (run,) = client.search_runs([experiment_id(client, uri, "attrloop")])
    client.log_text(run.info.run_id, "kept", "note.txt")

    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT name FROM runs").fetchall() == [("first",)]
    (note,) = folder.rglob("note.txt")
    assert note.read_text() == "kept" and note.is_relative_to(folder / "mlartifacts")
    assert list((tmp_path / "shops").iterdir()) == [folder] and len(list(tmp_path.rglob("mlflow.db"))) == 1


@pytest.mark.slow
def test_a_database_in_a_new_folder_is_made(tmp_path: Path) -> None:
    use(tmp_path / "new" / "what?x" / "mlflow.db", "first")
    assert sorted(file.name for file in (tmp_path / "new" / "what?x").iterdir()) == [".mlflow.db.lock", "mlflow.db"]
    assert runs(tmp_path / "new" / "what?x" / "mlflow.db") == {"first"}


@pytest.mark.parametrize(
    "uri", ["sqlite:////data/what?x/mlflow.db", "sqlite://data/mlflow.db", "sqlite:x", "sqlite:///"]
)
def test_a_uri_that_names_another_file_than_it_seems_to_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"sqlite:////absolute/path/mlflow\.db"):
        database_file(uri)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_database_that_the_next_user_can_use(tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        made = tmp_path / name
        made.mkdir()
        return made

    whole = folder("whole")
    first = started(whole / "mlflow.db", "first")
    began = begun(first, whole)
    first.join()
    seconds = time.monotonic() - began
    for k in range(MOMENTS):
        place = folder(str(k))
        killed = started(place / "mlflow.db", "killed")
        time.sleep(max(0.0, begun(killed, place) + seconds * (k + 0.5) / MOMENTS - time.monotonic()))
        killed.kill()
        killed.join()
        following = started(place / "mlflow.db", "next")
        following.join()
        assert following.exitcode == 0, f"moment {k}"
        assert runs(place / "mlflow.db") - {"killed"} == {"next"}


@pytest.mark.slow
def test_four_first_users_at_once_all_succeed(tmp_path: Path) -> None:
    users = [started(tmp_path / "mlflow.db", f"user {k}") for k in range(4)]
    for user in users:
        user.join()
    assert [user.exitcode for user in users] == [0] * 4
    assert runs(tmp_path / "mlflow.db") == {f"user {k}" for k in range(4)}


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow 2.0 with a run."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    file = tmp_path_factory.mktemp("older") / "mlflow.db"
    engine = create_engine(database_uri(file))
    Base.metadata.create_all(engine)
    config = _get_alembic_config(database_uri(file))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "cc1f77228345")
    engine.dispose()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (0, 'Default', 'a', 'active'), (1, 'old', 'a', 'active')"
        )
        database.execute(
            "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status, source_type, user_id, "
            "start_time, artifact_uri) VALUES ('r', 'old run', 1, 'active', 'FINISHED', 'LOCAL', 'me', 1, 'a')"
        )
    return file


def test_the_database_of_an_older_mlflow_is_brought_up_to_date_and_kept_as_it_was(older: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(older, tmp_path / "mlflow.db"))
    use(file, "new")
    assert runs(file) == {"old run", "new"}
    assert (tmp_path / "mlflow.db.cc1f77228345").read_bytes() == older.read_bytes()


@pytest.mark.slow
def test_a_kill_while_an_older_database_is_brought_up_to_date_loses_nothing(older: Path, tmp_path: Path) -> None:
    for k in range(6):
        (place := tmp_path / str(k)).mkdir()
        file = Path(shutil.copy(older, place / "mlflow.db"))
        killed = started(file, "killed")
        time.sleep(begun(killed, place, ".mlflow.db.lock") - time.monotonic() + 0.1 + 0.15 * k)
        killed.kill()
        killed.join()
        use(file, "next")
        assert runs(file) - {"killed"} == {"old run", "next"}, f"moment {k}"


@pytest.mark.slow
def test_a_database_that_was_never_made_to_its_end_is_set_aside(tmp_path: Path) -> None:
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    file = tmp_path / "mlflow.db"
    engine = create_engine(database_uri(file))
    Base.metadata.create_all(engine)  # MLflow's first step, after which a kill made every other attempt fail
    engine.dispose()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("ALTER TABLE metrics ADD COLUMN step BIGINT")
    use(file, "first")
    assert runs(file) == {"first"} and len(list(tmp_path.glob("mlflow.db.incomplete-*"))) == 1


def test_a_database_of_a_newer_mlflow_is_left_as_it_is(empty_store: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(empty_store, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = file.read_bytes()
    with pytest.raises(InputError, match="a newer MLflow has written this database"):
        prepare(file)
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("notes, not a database\n" * 100)
    with pytest.raises(InputError, match=r"mlflow\.db: not a database"):
        connect(database_uri(tmp_path / "mlflow.db"))
