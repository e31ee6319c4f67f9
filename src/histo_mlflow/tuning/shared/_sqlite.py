"""A study in a SQLite file that many processes write to at once.

Optuna reads a trial's state and then writes it. In other databases a row lock holds between the
two; SQLite has none, and Python's driver begins a transaction only at the write: of 60 trials that
four processes claimed at once, 3 were claimed by two. So a transaction that may write takes the
write lock when it begins. One that only reads does not wait for it, in WAL mode.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histo_mlflow import files
from histo_mlflow.errors import StudyError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

BUSY_SECONDS = 60.0
"""How long a process waits for another's transaction."""

_local = threading.local()


@contextmanager
def reading(only: bool) -> Iterator[None]:
    """Whether this thread only reads in the block; outside of any it is taken to write."""
    before = getattr(_local, "reads", False)
    _local.reads = only
    try:
        yield
    finally:
        _local.reads = before


def open_sqlite(url: str) -> RDBStorage:
    """Optuna's storage in a SQLite file that is there, in WAL mode.

    Args:
        url: with an absolute path.
    """
    import optuna
    from sqlalchemy import event

    # Without an isolation level the driver begins no transaction of its own.
    options = {"connect_args": {"timeout": BUSY_SECONDS, "isolation_level": None}}
    storage = optuna.storages.RDBStorage(url, engine_kwargs=options)

    def begin(connection: Any) -> None:
        reads = getattr(_local, "reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    event.listen(storage.engine, "begin", begin)
    return storage


def create(path: Path) -> None:
    """Make an empty storage under another name, then give it its own in one step.

    Of several processes that do so at once the first one wins and the others drop theirs.

    Raises:
        StudyError: no file can be made in the folder.
    """
    import optuna

    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.new")
    try:
        files.try_folder(path.parent)
        made = optuna.storages.RDBStorage(escaped(url_of(temporary)))
        made.engine.dispose()
        with closing(sqlite3.connect(temporary)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        with suppress(FileExistsError):
            files.name_if_free(temporary, path)
    except OSError as error:
        raise StudyError(
            f"the study's storage {path.name} cannot be made in the folder {path.parent} "
            f"({error.strerror or error}); name another with --storage"
        ) from error
    finally:
        for leftover in (temporary, *path.parent.glob(f"{temporary.name}-*")):
            leftover.unlink(missing_ok=True)


def tables(path: Path) -> set[str]:
    """The names of the tables in a SQLite file; switches it to WAL mode if it is Optuna's.

    Raises:
        StudyError: it is no SQLite file, or cannot be read or written.
    """
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {row[0] for row in rows}
            if "studies" in names:
                # Fails on a file, and in a folder, that cannot be written to.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StudyError(
            f"the study's storage {path} cannot be used: {error}; name another with --storage"
        ) from error
    return names


def url_of(path: Path) -> str:
    """The URL of a SQLite file, whatever characters are in its path."""
    from sqlalchemy.engine import URL

    made = URL.create("sqlite", database=path.as_posix())
    return made.render_as_string(hide_password=False)


def escaped(text: str) -> str:
    """For Optuna, which fills in templates in URLs."""
    return text.replace("{", "{{").replace("}", "}}")
