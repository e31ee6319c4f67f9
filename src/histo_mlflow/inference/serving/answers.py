"""What leaves the server: an answer, or a refusal in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from histo_mlflow.errors import HistoMlflowError

CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
RETRY_SECONDS = 1
JSON = "application/json"
LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class Answer:
    """One response, whole."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(HistoMlflowError):
    """A request is not served; the message is one sentence for whoever sent it.

    Attributes:
        status: of HTTP, one of `CODES`.
        reason: a word for the metrics.
        headers: of the response.
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason
        busy = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
        self.headers: Mapping[str, str] = {**busy, **(headers or {})}

    def answer(self) -> Answer:
        """The refusal as MLflow words its errors."""
        message = str(self)
        if len(message) > LONGEST_MESSAGE:
            message = message[: LONGEST_MESSAGE - 4] + " ..."
        return as_json(
            {"error_code": CODES[self.status], "message": message}, self.status, self.headers
        )


class GoneError(HistoMlflowError):
    """The client has left; there is nobody to answer."""


def as_json(
    value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer of JSON, in ASCII, so that no text of a client can break it."""
    return Answer(status, json.dumps(value).encode("ascii"), headers=headers or {})
