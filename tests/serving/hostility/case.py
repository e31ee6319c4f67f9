"""One hostile request: what is sent, what may be answered, what plain MLflow gets wrong.

A case survives if the status is one of its `allowed`, a 200 carries exactly the answers of its
`images`, and nothing of the server shows. `known` holds the faults that plain `mlflow models serve`
has by its own nature; they are expected exactly, so that a change of MLflow is noticed.
"""

import base64
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hostility import images as bad
from hostility.wire import (
    Answer,
    exchange,
    request,
)

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
GOOD = bad.picture(0)
OTHER = bad.picture(1, "JPEG", 64)
REFUSED = frozenset({400, 413, 415, 422})
CRASH, TRACE, LONG, ECHO = "status 500", "stack trace", "not answered in time", "sends it all back"
"""Faults that plain MLflow has."""


@dataclass(frozen=True)
class Case:
    """One hostile request.

    `images` are what a 200 must answer, in order; None where a 200 is wrong. `waits` says that the
    server's time limit is waited for: such cases are sent together.
    """

    name: str
    send: Callable[[int], Answer]
    allowed: frozenset[int] = REFUSED
    images: tuple[bytes, ...] | None = None
    known: frozenset[str] = field(default_factory=frozenset)
    waits: bool = False


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def posted(
    name: str,
    body: Any,
    *,
    content_type: str | None = JSON,
    allowed: Iterable[int] = REFUSED,
    images: Sequence[bytes] | None = None,
    known: Iterable[str] = (),
    seconds: float = 60.0,
    waits: bool = False,
    **options: Any,
) -> Case:
    """A case that posts one body: bytes as they are, anything else as JSON."""

    def send(port: int) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return exchange(port, request(data, content_type=content_type, **options), seconds=seconds)

    taken = None if images is None else tuple(images)
    statuses = frozenset(allowed) | (frozenset() if images is None else {200})
    return Case(name, send, statuses, taken, frozenset(known), waits)


def rows(*values: Any) -> dict[str, Any]:
    """A request in the form that the README tells first."""
    return {"dataframe_split": {"columns": ["image"], "data": [[value] for value in values]}}


def parquet(values: Any, column: str = "image") -> bytes:
    file = io.BytesIO()
    pd.DataFrame({column: values}).to_parquet(file)
    return file.getvalue()
