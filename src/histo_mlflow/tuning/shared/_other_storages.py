"""Opening what machines can share over a network: a database server, Optuna's gRPC proxy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from histo_mlflow.errors import StudyError
from histo_mlflow.tracking.redaction import redact
from histo_mlflow.tuning.shared import _sqlite
from histo_mlflow.tuning.shared._steady import asked, plain_reason, storage_errors

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy.engine import URL

T = TypeVar("T")

CONNECT_SECONDS = 8
SCHEMA_ATTEMPTS = 8
"""Of several machines that make the tables at once all but one fail, once or twice."""

# A connection that a firewall has dropped is found out in a minute, not in the two hours that the
# system takes.
_POSTGRESQL = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_INSTALL = {
    "postgresql": "pip install 'histo-mlflow[postgres]'",
    "mysql": "pip install pymysql, and begin the URL with mysql+pymysql://",
}


def open_database(url: str, tracking_uri: str | None, make: bool) -> tuple[BaseStorage, str]:
    """Optuna's storage in a PostgreSQL or MySQL database; its tables are made if need be.

    Returns:
        the storage, and the URL with its driver.

    Raises:
        StudyError: nothing useful answers, or it is MLflow's database.
    """
    import optuna

    shown = redact(url)
    parsed = parsed_url(url, like="postgresql://user:password@host:port/database")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if tracking_uri is not None and _same_database(parsed, tracking_uri):
        raise StudyError(mlflows(shown))
    kind = parsed.get_backend_name()
    options: dict[str, Any] = {"pool_pre_ping": True}
    if parsed.drivername == "postgresql+psycopg":
        known = {name: value for name, value in _POSTGRESQL.items() if name not in parsed.query}
        options["connect_args"] = known
    whole = parsed.render_as_string(hide_password=False)
    found = _tables(whole, options, shown, kind)
    if found or not make:
        assert_optunas(found, shown)
    storage = of_this_version(lambda: _with_schema(whole, options, shown))
    return optuna.storages.get_storage(storage), whole


def parsed_url(url: str, *, like: str) -> URL:
    """The parts of a database's URL; `like` is one that could be given.

    Raises:
        StudyError: it cannot be read.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StudyError(
            f"the study's storage {redact(url)!r} should look like {like}: {redact(str(error))}"
        ) from error


def _tables(url: str, options: dict[str, Any], shown: str, kind: str) -> set[str]:
    import sqlalchemy

    def look() -> set[str]:
        engine = sqlalchemy.create_engine(url, **options)
        try:
            return set(sqlalchemy.inspect(engine).get_table_names())
        finally:
            engine.dispose()

    try:
        # Whether somebody will start it is not for us to wait for.
        return asked(f"connecting to the study's storage {shown}", look, patience_seconds=0)
    except ImportError as error:
        raise StudyError(
            f"the study's storage {shown} needs a driver that is not installed ({error}): "
            f"{_INSTALL[kind]}"
        ) from error


def _with_schema(url: str, options: dict[str, Any], shown: str) -> RDBStorage:
    import optuna
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for attempt in range(SCHEMA_ATTEMPTS):
        try:
            return optuna.storages.RDBStorage(_sqlite.escaped(url), engine_kwargs=dict(options))
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            # Another machine made the same table a moment ago; whatever else it is stays.
            if attempt + 1 == SCHEMA_ATTEMPTS:
                raise StudyError(
                    f"making Optuna's tables in {shown} failed: {plain_reason(error)}"
                ) from error
        _pause(attempt)
    raise AssertionError("unreachable")


def _pause(attempt: int) -> None:
    import random
    import time

    time.sleep(random.uniform(0.05, 0.15) * 2 ** min(attempt, 4))  # noqa: S311


def of_this_version(open_it: Callable[[], T]) -> T:
    """What opens an RDB storage, with Optuna's word on another version's tables as ours.

    Raises:
        StudyError: another version of Optuna made the tables.
    """
    try:
        return open_it()
    except RuntimeError as error:
        if "compatible with the table schema" not in str(error):
            raise
        raise StudyError(f"the study's storage cannot be used: {plain_reason(error)}") from error


def assert_optunas(tables: set[str], shown: str) -> None:
    """Check that tables are Optuna's.

    Raises:
        StudyError: they are MLflow's or another program's, or there are none.
    """
    if "experiments" in tables:
        raise StudyError(mlflows(shown))
    if "studies" not in tables:
        what = "holds tables of another program" if tables else "holds no studies"
        raise StudyError(f"the study's storage {shown} {what}; name another storage with --storage")


def mlflows(shown: str) -> str:
    """What is said where the storage is MLflow's database."""
    return (
        f"the study's storage {shown} is a database in which MLflow keeps its runs; the two cannot "
        "share one, so name another with --storage, such as sqlite:///optuna.db or, on the same "
        "server, a database of its own (`createdb optuna`)"
    )


def _same_database(url: URL, tracking_uri: str) -> bool:
    from sqlalchemy.engine import make_url

    if re.match(r"(postgresql|mysql)", tracking_uri) is None:
        return False
    other = make_url(tracking_uri)
    ports = {"postgresql": 5432, "mysql": 3306}

    def place(of: URL) -> tuple[object, ...]:
        kind = of.get_backend_name()
        host = of.host or of.query.get("host") or "localhost"
        host = "localhost" if host in ("127.0.0.1", "::1") else host
        return kind, host, of.port or ports[kind], of.database or of.username

    return place(url) == place(other)


def open_grpc(url: str) -> BaseStorage:
    """Optuna's gRPC proxy, which a server of `optuna.storages.run_grpc_proxy_server` answers.

    Raises:
        StudyError: `grpcio` is missing, the URL is wrong, or nothing answers in 8 s.
    """
    found = re.fullmatch(r"grpc://(\[[^\]]+\]|[^:/@\[\]]+):(\d{1,5})/?", url)
    if found is None or not 0 < int(found[2]) < 65536:
        raise StudyError(
            f"the study's storage {redact(url)!r} should look like grpc://host:port, such as "
            "grpc://localhost:13000"
        )
    try:
        import grpc  # noqa: F401
    except ImportError as error:
        raise StudyError(
            f"the study's storage {url} needs `pip install 'histo-mlflow[grpc]'`"
        ) from error
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import GrpcStorageProxy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=found[1], port=int(found[2]))
    try:
        proxy.wait_server_ready(timeout=CONNECT_SECONDS)
        proxy.get_all_studies()
    except storage_errors() as error:
        raise StudyError(
            f"the study's storage {url} does not answer: {plain_reason(error)}; start a server "
            "there with `optuna.storages.run_grpc_proxy_server`"
        ) from error
    return proxy
