"""Where a study is kept: a SQLite file, a database, Optuna's journal, or its gRPC proxy.

It is never the database in which MLflow keeps its runs: both own a table `alembic_version`, and
whichever came second would break.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histo_mlflow.errors import StudyError
from histo_mlflow.tracking.redaction import redact
from histo_mlflow.tuning.shared import _other_storages, _sqlite
from histo_mlflow.tuning.shared._steady import PATIENCE_SECONDS, asked, steady

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy.engine import URL

__all__ = ["DEFAULT_URL", "PATIENCE_SECONDS", "Opened", "asked", "open_storage"]

DEFAULT_URL = "sqlite:///optuna.db"
SCHEMES = ("sqlite", "postgresql", "mysql", "journal", "grpc")
SLASHES = "three slashes begin a relative path, four an absolute one"
ADVICE = "name another storage with --storage"


@dataclass(frozen=True)
class Opened:
    """A storage that has answered.

    Args:
        storage: its passing failures are tried again, its others are `StudyError`s.
        url: opens the same storage from any folder; may hold credentials.
        shown_url: without credentials.
    """

    storage: BaseStorage
    url: str
    shown_url: str


def open_storage(url: str, *, tracking_uri: str | None = None, make: bool = True) -> Opened:
    """Open a study's storage; one that does not answer is an error within about 10 s.

    Args:
        url: `sqlite:///file.db`, `postgresql://user:password@host/database`, `mysql://...`,
            `journal:///file.log` or `grpc://host:port`. As with SQLite, three slashes begin a
            path that is relative to the current folder, four an absolute one; a file's URL has no
            host and no options.
        tracking_uri: where MLflow keeps its runs; None if it is not known.
        make: whether file and tables may be made; False for whoever only looks.

    Raises:
        StudyError: not a URL we know, MLflow's database, or nothing useful answers there.
    """
    shown = redact(url)
    scheme = re.match(r"([a-z][a-z0-9]*)(?:\+[a-z0-9_]+)?://", url)
    if scheme is None or scheme[1] not in SCHEMES:
        raise StudyError(
            f"the study's storage {shown!r} should begin with one of "
            f"{', '.join(f'{name}://' for name in SCHEMES)}; give for example {DEFAULT_URL}"
        )
    # It says of every trial that it was made; what is worth saying is ours to say.
    logging.getLogger("optuna").setLevel(logging.ERROR)
    openers = {
        "sqlite": _open_sqlite,
        "journal": _open_journal,
        "grpc": lambda url, *_: (_other_storages.open_grpc(url), url),
        "postgresql": _other_storages.open_database,
        "mysql": _other_storages.open_database,
    }
    inner, whole_url = openers[scheme[1]](url, tracking_uri, make)
    return Opened(
        storage=steady(inner, redact(whole_url)), url=whole_url, shown_url=redact(whole_url)
    )


def _open_sqlite(url: str, tracking_uri: str | None, make: bool) -> tuple[BaseStorage, str]:
    import optuna
    from sqlalchemy.engine import make_url

    _assert_shape(url, "sqlite", drivers=("pysqlite",))
    parsed = _parsed(url)
    path = _path(parsed.database, url)
    if tracking_uri is not None and tracking_uri.startswith("sqlite"):
        of_mlflow = make_url(tracking_uri).database
        if of_mlflow and Path(of_mlflow).expanduser().resolve() == path.resolve():
            raise StudyError(_other_storages.mlflows(str(path)))
    if not _is_there(path):
        if not make:
            raise StudyError(f"there is no study's storage {path}; {ADVICE}")
        asked(f"making the study's storage {path}", lambda: _sqlite.create(path))
    if path.stat().st_size == 0:
        raise StudyError(f"the study's storage {path} is an empty file; remove it, or {ADVICE}")
    _other_storages.assert_optunas(_sqlite.tables(path), str(path))
    whole = parsed.set(database=path.as_posix()).render_as_string(hide_password=False)
    storage = asked(
        f"opening the study's storage {path}",
        lambda: _other_storages.of_this_version(
            lambda: _sqlite.open_sqlite(_sqlite.escaped(whole))
        ),
    )
    return optuna.storages.get_storage(storage), whole


def _open_journal(url: str, tracking_uri: str | None, make: bool) -> tuple[BaseStorage, str]:
    from histo_mlflow.tuning.shared import _journal

    _assert_shape(url, "journal")
    path = _path(url[len("journal:///") :], url)
    if not _is_there(path) and not make:
        raise StudyError(f"there is no study's storage {path}; {ADVICE}")
    return _journal.open_journal(path), f"journal:///{path.as_posix()}"


def _assert_shape(url: str, kind: str, *, drivers: tuple[str, ...] = ()) -> None:
    """Check what stands before the path in the URL of a file.

    Raises:
        StudyError: a driver that there is not, or a host.
    """
    scheme, _, rest = url.partition("://")
    driver = scheme.partition("+")[2]
    if driver and driver not in drivers:
        raise StudyError(
            f"the study's storage {redact(url)!r} names a driver {driver}, which is not there: "
            f"begin it with {kind}:///"
        )
    if rest and not rest.startswith("/"):
        raise StudyError(
            f"the study's storage {redact(url)!r} should begin with {kind}:///, for a file has no "
            f"host: {SLASHES}, as in {kind}:///optuna.db and {kind}:////data/optuna.db"
        )


def _parsed(url: str) -> URL:
    """The URL of a SQLite file.

    Raises:
        StudyError: it cannot be read, or has options, which would be lost or name another file.
    """
    parsed = _other_storages.parsed_url(url, like=DEFAULT_URL)
    if parsed.query:
        raise StudyError(
            f"the study's storage {redact(url)!r} has options, and a SQLite file takes none: leave "
            "out what stands after the ? (which is written %3F in a file's name)"
        )
    return parsed


def _path(named: str | None, url: str) -> Path:
    if not named or named == ":memory:":
        raise StudyError(
            f"the study's storage {url!r} names no file, so the study would be lost; give one, "
            f"such as {DEFAULT_URL}"
        )
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise StudyError(
            f"the study's storage {url!r} lies in the home folder of a user who is not known here; "
            f"{ADVICE}"
        ) from error


def _is_there(path: Path) -> bool:
    """Whether the file is there.

    Raises:
        StudyError: it cannot be, or may not be looked at.
    """
    try:
        if path.is_dir():
            raise StudyError(f"the study's storage {path} is a folder; name a file in it")
        if not path.parent.is_dir():
            raise StudyError(
                f"the folder of the study's storage does not exist: {path.parent} (four slashes "
                "begin an absolute path: sqlite:////data/optuna.db)"
            )
        return path.exists()
    except OSError as error:
        # Not allowed, or a name that is too long.
        raise StudyError(
            f"the study's storage {path} cannot be looked into ({error.strerror or error}); "
            f"{ADVICE}"
        ) from error
