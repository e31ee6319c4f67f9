"""Where runs are kept: a SQLite file made on first use, a database, or an MLflow server.

`mlflow` is imported inside the functions: it takes seconds, and `--help` must not pay for it.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from histo_mlflow import files
from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.bounded import within
from histo_mlflow.tracking.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

DEFAULT_URI = "sqlite:///mlflow.db"
CONNECT_SECONDS = 8.0
CALL_SECONDS = 60.0
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
# The first use of a SQLite file runs MLflow's whole schema history: 7 s on two idle cores.
CREATE_SECONDS = 180.0

# MLflow's defaults add up to 246 s for an unreachable server. What the user has set stays.
_BOUNDS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # Whoever asks for a pause of 100 s is asked again by our own pauses, which can be cut short.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # MLflow prints a run's address to stdout, which is for data.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Its bars of bytes are not for our users.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

# Not among them: credentials and addresses that are refused for a while by what stands before a
# server (401, 403, 404), which comes right again.
_PERMANENT = frozenset({"INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"})
_REASONS = (
    (r"Connection refused|actively refused", "the connection was refused (is the server running?)"),
    (
        r"Failed to resolve|NameResolutionError|Name or service not known|getaddrinfo",
        "the host name is not known",
    ),
    (r"Read timed out|ConnectTimeout|timed out", "no answer in time"),
    (
        r"must be in the 'active' state",
        "the run was deleted (`mlflow runs restore` brings it back)",
    ),
    (r"\b401\b|UNAUTHENTICATED", "the server wants credentials (MLFLOW_TRACKING_USERNAME, ...)"),
    (r"\b403\b|PERMISSION_DENIED", "the server denies this to us"),
    (r"unable to open database file", "the database file cannot be opened or made"),
    (r"database or disk is full|No space left", "the disk of the store is full"),
    (r"readonly database", "the database file is read-only"),
    (r"file is not a database", "the file is not a SQLite database"),
    (
        r"out-of-date database schema",
        "another version of MLflow made the database; back it up and run `mlflow db upgrade`",
    ),
)


@dataclass(frozen=True)
class Store:
    """A tracking store that has answered.

    `sqlite_path` is the database file of a SQLite store, else None.
    """

    tracking_uri: str
    client: "MlflowClient" = field(repr=False, compare=False)
    sqlite_path: Path | None = None

    def ask(self, doing: str, call: Callable[[], T], seconds: float = CALL_SECONDS) -> T:
        """The result of a call on the client, with every failure a plain `TrackingError`.

        Args:
            doing: "starting a run"; the store's address is added.
            call: uses `self.client`.
            seconds: the longest wait.

        Raises:
            TrackingError: the store refused, failed, or did not answer in time.
        """
        return asked(f"{doing} at {self.shown_uri}", call, seconds)

    @property
    def shown_uri(self) -> str:
        """The address without credentials."""
        return redact(self.tracking_uri)

    @property
    def is_server(self) -> bool:
        """Whether it is an MLflow server, spoken to over HTTP."""
        return self.tracking_uri.startswith(("http://", "https://"))

    def post_once(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to an MLflow server a single time; its answer.

        MLflow's client sends every request again when the answer got lost, also one that adds
        something. What must not be there twice goes through here, and the caller asks the server
        before a second attempt.

        Args:
            endpoint: "runs/log-batch".
            body: JSON values.

        Raises:
            Exception: one of `store_errors()`, as the client's own calls raise.
        """
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        where = f"/api/2.0/mlflow/{endpoint}"
        answer = http_request(  # type: ignore[no-untyped-call]
            host_creds=get_default_host_creds(self.tracking_uri),  # type: ignore[no-untyped-call]
            endpoint=where,
            method="POST",
            max_retries=0,
            raise_on_status=False,
            json=body,
        )
        if not answer.text.strip():
            # MLflow takes an empty answer for a yes; its server never gives one.
            raise OSError(f"{endpoint} was answered with {answer.status_code} and nothing in it")
        found: dict[str, Any] = verify_rest_response(answer, where).json()
        return found


def asked(doing: str, call: Callable[[], T], seconds: float) -> T:
    """`within`, with the errors of the store as `TrackingError`."""
    errors = store_errors()
    try:
        return within(seconds, doing, call)
    except errors as error:
        raise TrackingError(f"{doing} failed: {plain_reason(error)}") from error


def store_errors() -> tuple[type[Exception], ...]:
    """What a call on the client raises when the store, the network or a driver fails."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, ImportError)


def is_permanent(error: Exception) -> bool:
    """Whether the store has judged a request, so that the same one can never succeed."""
    return getattr(error, "error_code", None) in _PERMANENT


def plain_reason(error: Exception) -> str:
    """One line that a person can act on, without credentials or a stack of library names."""
    text = str(error)
    for pattern, reason in _REASONS:
        if re.search(pattern, text):
            return reason
    if isinstance(error, ImportError):
        return f"{error}; a PostgreSQL store needs `pip install 'histo-mlflow[postgres]'`"
    lines = text.strip().splitlines() or [type(error).__name__]
    return redact(lines[0])[:400]


def connect(tracking_uri: str | None = None, *, make: bool = True) -> Store:
    """Open a tracking store; one that does not answer is an error within 10 s.

    Args:
        tracking_uri: `sqlite:///file.db`, `postgresql://...`, `http(s)://...`; None means the
            environment's `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` in the current folder.
            A SQLite file that is not there is made, whole or not at all, and safely beside other
            processes that do the same.
        make: whether it may be made; False for whoever only reads.

    Raises:
        TrackingError: not an address we know, or nothing useful answers there.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    shown = redact(uri)
    scheme = re.match(r"(databricks|[a-z][a-z0-9+.\-]+(?=:))", uri)
    if scheme is None or scheme[1] == "file":
        raise TrackingError(
            f"the tracking store {shown!r} is a folder or a plain name, which MLflow no longer "
            "takes; give a SQLite file (sqlite:///mlflow.db) or a server (http://host:5000)"
        )
    if scheme[1].partition("+")[0] not in SCHEMES:
        raise TrackingError(
            f"the tracking store {shown!r} begins with {scheme[1]}:, which is none of "
            f"{', '.join(SCHEMES)}; correct --tracking-uri or MLFLOW_TRACKING_URI"
        )
    for name, value in _BOUNDS.items():
        os.environ.setdefault(name, value)
    # It tells of every attempt in an outage; what comes of them is ours to say, once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    import mlflow

    # It prints a traceback of 80 lines at every error of a database. After the import, which sets
    # the levels of MLflow's loggers anew.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

    path: Path | None = None
    if scheme[1].startswith("sqlite"):
        path = _sqlite_path(uri)
        uri = _with_path(uri, path)
        if not path.exists():
            if not make:
                raise TrackingError(
                    f"there is no tracking store {shown}; name another with --tracking-uri or "
                    "MLFLOW_TRACKING_URI"
                )
            _try_folder(path)
            asked(f"making the tracking store {shown}", lambda: _create(path), CREATE_SECONDS)

    def first_call() -> "MlflowClient":
        client = mlflow.MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
        return client

    seconds = CREATE_SECONDS if path else CONNECT_SECONDS
    try:
        client = asked(f"connecting to the tracking store {shown}", first_call, seconds)
    except TrackingError as error:
        advice = "name another store with --tracking-uri or MLFLOW_TRACKING_URI"
        raise TrackingError(f"{error}; {advice if path else f'start it, or {advice}'}") from error
    return Store(tracking_uri=uri, client=client, sqlite_path=path)


def experiment_id(store: Store, name: str) -> str:
    """The id of the experiment of that name, made if it is not there.

    With SQLite the artifacts lie beside the database (`mlruns/<name>`), not in whatever folder the
    process happens to stand in.

    Raises:
        TrackingError: the experiment was deleted, or the store failed.
    """
    from mlflow.exceptions import MlflowException

    location = None
    if store.sqlite_path is not None:
        location = (store.sqlite_path.parent / "mlruns" / _slug(name)).as_uri()

    def get_or_create() -> tuple[str, str]:
        found = store.client.get_experiment_by_name(name)
        if found is None:
            try:
                return store.client.create_experiment(name, artifact_location=location), "active"
            except MlflowException:
                # Another process may have made it between the two calls.
                found = store.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id), str(found.lifecycle_stage)

    identifier, stage = store.ask(f"opening the experiment {name!r}", get_or_create)
    if stage != "active":
        raise TrackingError(
            f"the experiment {name!r} was deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {identifier}` or choose another name"
        )
    return identifier


def _slug(name: str) -> str:
    """A folder name for an experiment; two names never share one."""
    plain = re.sub(r"[^\w.\-]+", "-", name).strip("-.")[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _sqlite_path(uri: str) -> Path:
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    if not database or database == ":memory:":
        raise TrackingError(
            f"the tracking store {uri!r} names no file, so its runs would be lost; "
            f"give one, such as {DEFAULT_URI}"
        )
    path = Path(database).expanduser().absolute()
    try:
        path.stat()
    except PermissionError as error:
        raise TrackingError(
            f"the tracking store {path} may not be looked into; name another with --tracking-uri "
            "or MLFLOW_TRACKING_URI"
        ) from error
    except OSError:  # it is to be made, or its folder is not there
        if not path.parent.is_dir():
            raise TrackingError(
                f"the folder of the tracking store does not exist: {path.parent}"
            ) from None
    return path


def _with_path(uri: str, path: Path) -> str:
    from sqlalchemy.engine import make_url

    return make_url(uri).set(database=path.as_posix()).render_as_string(hide_password=False)


def _try_folder(path: Path) -> None:
    """Try the folder of a database that is to be made; MLflow would try for three minutes.

    Raises:
        TrackingError: no file can be made in the folder.
    """
    try:
        files.try_folder(path.parent)
    except OSError as error:
        raise TrackingError(
            f"the tracking store {path.name} cannot be made in the folder {path.parent} "
            f"({error.strerror or error}); stand in another folder or give --tracking-uri"
        ) from error


def _create(path: Path) -> None:
    """Make the database under another name, then give it its own in one step.

    Several processes that made one fresh SQLite file at once used to fail half-way through the
    schema; here the first one wins and the others drop theirs.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        made = SqlAlchemyStore(  # type: ignore[no-untyped-call]
            f"sqlite:///{temporary.as_posix()}", (path.parent / "mlruns").as_uri()
        )
        made.engine.dispose()
        with suppress(FileExistsError):
            files.name_if_free(temporary, path)
    finally:
        for leftover in (temporary, *path.parent.glob(f"{temporary.name}-*")):
            leftover.unlink(missing_ok=True)
