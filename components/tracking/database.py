"""MLflow's database where it is a file: its URI, and how it is made so that a kill leaves a whole file or none.

MLflow makes its tables in dozens of steps. Stopped in between, or begun by two processes at once, they fit no other
attempt. So one process at a time makes them under another name, and the file gets its own name when it is whole.
"""

import os
import sqlite3
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

from attrloop.components.errors import InputError, Problem, explained_disk, fail
from attrloop.components.storage.files import TEMPORARY, flush, locked

_PLAIN, _QUOTED = "sqlite:///", "sqlite+pysqlite:///"
_PATIENCE = 60.0  # seconds to wait for another process that writes to the database
_ASIDE = "incomplete"


def database_uri(file: Path) -> str:
    """The URI of a database file, whatever characters its path has: SQLAlchemy and MLflow read it back as this path."""
    path = str(file.absolute())
    quoted = quote(path)
    # For `sqlite:///` MLflow makes the folder of the path as it is written in the URI, which is the wrong one when
    # some characters are quoted. With the driver's name it does not.
    return f"{_PLAIN}{path}" if quoted == path else f"{_QUOTED}{quoted}"


def database_file(uri: str) -> Path | None:
    """The file that a URI names, as SQLAlchemy reads it; None for other databases and for servers.

    Raises:
        InputError: not the URI of a database file, though it begins like one.
    """
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    remedy = "Write sqlite:////absolute/path/mlflow.db, with %3F for '?' and %25 for '%'"
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError) as error:
        raise fail(f"tracking.uri {uri}", "not the URI of a database file", remedy) from error
    if url.get_backend_name() != "sqlite" or url.host or url.username or url.port or not url.database:
        raise fail(f"tracking.uri {uri}", "not the URI of a database file", remedy)
    if "?" in uri and set(url.query) != {"timeout"}:
        raise fail(f"tracking.uri {uri}", "only the part before '?' would be the file's path", remedy)
    return Path(url.database).absolute()


def artifact_folder(file: Path) -> str:
    """URI of the folder beside a database file that holds the artifacts of its runs."""
    return (file.parent / "mlartifacts").as_uri()


def examine_file(file: Path) -> list[Problem]:
    """What will keep a database from being used, as far as can be told without changing it.

    Raises:
        InputError: as `prepare`.
    """
    version = _version(file)
    if version not in (None, "", *_versions()):
        raise _newer(file, version)
    if version is not None and not os.access(file, os.W_OK):
        return [Problem(str(file), "the database cannot be written", "Change its permissions")]
    return []


def prepare(file: Path) -> None:
    """Makes the database, or brings one of an older MLflow to the present form; does nothing when it is ready.

    A database of an older MLflow is kept beside the new one, under its name and version. One that was never made to
    its end, and so holds no run, is set aside and made anew.

    Raises:
        InputError: not a database, or one of a newer MLflow; the folder cannot be written; the disk is full.
    """
    if _version(file) == _versions()[0]:
        return
    try:
        with explained_disk(str(file)), locked(file.with_name(f".{file.name}.lock")):
            _make(file)
    except OSError as error:
        remedy = "Change its permissions, or name another place with tracking.uri"
        raise fail(str(file), f"the database cannot be made ({error.strerror})", remedy) from error


def _make(file: Path) -> None:
    version = _version(file)
    if version == _versions()[0]:  # another process has made it meanwhile
        return
    if version not in (None, "", *_versions()):
        raise _newer(file, version)
    temporary = file.with_name(f"{TEMPORARY}{file.name}")
    for leftover in (temporary, temporary.with_name(f"{temporary.name}-journal")):
        leftover.unlink(missing_ok=True)
    if version is None or _unused(file):
        _create(temporary)
        if version is not None:
            os.replace(file, file.with_name(f"{file.name}.{_ASIDE}-{time.strftime('%Y%m%d-%H%M%S')}"))
        _put(temporary, file)
        return
    with closing(_open(file)) as held:
        held.execute("BEGIN IMMEDIATE")  # nobody else writes until the new file is in its place
        with closing(_open(file)) as old, closing(sqlite3.connect(temporary)) as new:
            old.backup(new)
        _upgrade(temporary)
        kept = file.with_name(f"{file.name}.{version or 'old'}")
        kept.unlink(missing_ok=True)
        os.link(file, kept)
        _put(temporary, file)


def _newer(file: Path, version: str | None) -> InputError:
    what = f"a newer MLflow has written this database (form {version})"
    return fail(str(file), what, "Install that version of MLflow, or name another database with tracking.uri")


def _put(temporary: Path, file: Path) -> None:
    flush(temporary)
    os.replace(temporary, file)


def _create(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(database_uri(file), artifact_folder(file))  # type: ignore[no-untyped-call]
    store.engine.dispose()


def _upgrade(file: Path) -> None:
    from mlflow.db import upgrade

    assert upgrade.callback is not None  # the function of the command `mlflow db upgrade`
    upgrade.callback(database_uri(file))


def _open(file: Path) -> sqlite3.Connection:
    # Only a writable connection can take back what a killed process has half written; `rw` makes no file.
    return sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=_PATIENCE, isolation_level=None)


def _version(file: Path) -> str | None:
    """The form of a database by MLflow's name for it; "" for a file without one, None for no file."""
    if not file.exists():
        return None
    try:
        with closing(_open(file)) as database:
            if "alembic_version" not in _tables(database):
                return ""
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise fail(
            str(file), f"not a database that can be used ({error})", "Move it away, or name another with tracking.uri"
        ) from error
    return str(found[0]) if found else ""


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _unused(file: Path) -> bool:
    """Whether a database holds nothing that anyone has put there: no run, no model, no experiment of one's own."""
    with closing(_open(file)) as database:
        tables = _tables(database)
        if tables and "experiments" not in tables:  # of somebody else
            return False
        own = {"experiments": " WHERE experiment_id <> 0", "runs": "", "registered_models": ""}
        return not any(
            database.execute(f"SELECT 1 FROM {table}{only} LIMIT 1").fetchone()
            for table, only in own.items()
            if table in tables
        )


@cache
def _versions() -> tuple[str, ...]:
    """The forms of a database that the installed MLflow knows, the present one first."""
    from alembic.script import ScriptDirectory
    from mlflow.store import db_migrations

    return tuple(found.revision for found in ScriptDirectory(next(iter(db_migrations.__path__))).walk_revisions())
