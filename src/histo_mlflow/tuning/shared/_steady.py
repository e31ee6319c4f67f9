"""An Optuna storage whose passing failures are tried again and whose others are plain errors.

Optuna calls its storage in many places, also when a sampler asks or a trial reports. All of them go
through here, so that none of them has to know that a database can be locked or a connection lost.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from histo_mlflow.errors import StudyError
from histo_mlflow.tracking.redaction import redact
from histo_mlflow.tuning.shared import _sqlite

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long a passing failure is tried again."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 2.0

# What a database, a driver or a network says of a failure that ends by itself.
_PASSING = re.compile(
    r"database is locked|database table is locked|deadlock|could not serialize"
    r"|server closed the connection|connection (?:was |is )?(?:closed|lost|reset|refused)"
    r"|terminating connection|the database system is (?:starting up|shutting down|in recovery)"
    r"|consuming input failed|SSL connection has been closed|broken pipe|lost connection"
    r"|server has gone away|too many (?:clients|connections)|remaining connection slots"
    r"|StatusCode\.(?:UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED)",
    re.IGNORECASE,
)
_REASONS = (
    (r"password authentication failed|Access denied for user", "the user or the password is wrong"),
    (r"no password supplied", "it wants a password (postgresql://user:password@host/database)"),
    (r"role \"[^\"]*\" does not exist", "it does not know the user"),
    (
        r"database \"[^\"]*\" does not exist|Unknown database",
        "it has no database of that name; make one with `createdb`",
    ),
    (
        r"could not translate host name|failed to resolve host|Name or service not known"
        r"|getaddrinfo|DNS resolution failed|Name resolution",
        "the host name is not known",
    ),
    (
        r"Connection refused|Failed to connect",
        "the connection was refused (is the server running?)",
    ),
    (r"permission denied for schema", "the user may not make tables there"),
    (r"timeout expired|timed out|GRPC connection timeout|connection timeout", "no answer in time"),
    (r"database is locked", "another program holds the database for too long"),
    (r"database or disk is full|No space left", "the disk of the study is full"),
    (r"readonly database|read-only", "the database cannot be written to"),
    (r"unable to open database file", "the database file cannot be opened or made"),
    (r"file is not a database|malformed", "the file is not a SQLite database, or a damaged one"),
    (
        r"no longer compatible with the table schema",
        "another version of Optuna made its tables; back it up and run `optuna storage upgrade "
        "--storage URL`, or install that version",
    ),
    (r"StatusCode\.UNAVAILABLE", "the server cannot be reached (is it running?)"),
)


def asked(doing: str, call: Callable[[], T], *, patience_seconds: float = PATIENCE_SECONDS) -> T:
    """The result of a call on an Optuna storage; passing failures are tried again with pauses.

    Args:
        doing: "taking a trial of study x"; begins the message.
        call: may be made twice, also when the first one did its work and the answer got lost.
        patience_seconds: how long to try again; 0 for a single attempt.

    Raises:
        StudyError: the storage failed for good, or for too long.
    """
    errors = storage_errors()
    deadline = time.monotonic() + patience_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except errors as error:
            if not is_passing(error) or time.monotonic() + pause > deadline:
                raise StudyError(f"{doing} failed: {plain_reason(error)}") from error
        # Several that fail at once must not come back at once.
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def storage_errors() -> tuple[type[Exception], ...]:
    """What a call on a storage raises when a database, a driver, a file or a network fails."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    found: tuple[type[Exception], ...] = (StorageInternalError, SQLAlchemyError, OSError)
    # Not imported for its sake: without it nothing can have raised its error.
    grpc = sys.modules.get("grpc")
    return found if grpc is None else (*found, grpc.RpcError)


def is_passing(error: Exception) -> bool:
    """Whether a failure of a storage may end by itself."""
    return _PASSING.search(_full_text(error)) is not None


def plain_reason(error: Exception) -> str:
    """One line that a person can act on, without credentials or a stack of library names."""
    text = _full_text(error)
    for pattern, reason in _REASONS:
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    lines = text.strip().splitlines() or [type(error).__name__]
    return redact(lines[0])[:400]


def _full_text(error: BaseException) -> str:
    """What an error and those behind it say, the innermost first: it is the database's own."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(texts) < 5:
        texts.insert(0, str(seen))
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)


class SteadyStorage:
    """Gives every call on to `inner`, through `asked`.

    Optuna takes it for a `BaseStorage`: it asks for no more than the methods.

    Args:
        inner: any Optuna storage; of RDB the cached one.
        shown_url: for messages, without credentials.
    """

    def __init__(self, inner: BaseStorage, shown_url: str) -> None:
        self._inner = inner
        self._shown_url = shown_url

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name.startswith("_") or not callable(found):
            return found
        reads = name.startswith("get_")

        def call(*args: Any, **kwargs: Any) -> Any:
            with _sqlite.reading(reads):
                return asked(
                    f"{name.replace('_', ' ')} in the study's storage {self._shown_url}",
                    lambda: found(*args, **kwargs),
                )

        # Looked up once: some are called thousands of times.
        self.__dict__[name] = call
        return call


def steady(inner: BaseStorage, shown_url: str) -> BaseStorage:
    """`SteadyStorage`, as the type that Optuna's functions ask for."""
    return cast("BaseStorage", SteadyStorage(inner, shown_url))
