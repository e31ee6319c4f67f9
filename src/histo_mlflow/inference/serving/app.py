"""Which path does what. An ASGI application from which nothing but an `Answer` leaves.

    GET  /             the page for one image; holds nothing of the model
    GET  /health       alive
    GET  /ready        200 when a request would be taken, else 503 and why
    GET  /ping         as MLflow
    GET  /version      as MLflow: its version
    GET  /about        the model and the limits
    GET  /metrics      for Prometheus
    POST /invocations  as MLflow, and Parquet and single images
    POST /explain      one image: its answer and its Grad-CAM; ?class=NAME for another class

A token, where there is one, is needed for all but `/`, `/health` and `/ready`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
from mlflow.version import VERSION

from histo_mlflow.errors import ImageError, ModelError
from histo_mlflow.inference.serving import access, payload
from histo_mlflow.inference.serving.answers import Answer, GoneError, RefusedError, as_json
from histo_mlflow.inference.serving.body import Body, Budget, Message, Receive
from histo_mlflow.inference.serving.explain import Explainer
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.inference.serving.metrics import CONTENT_TYPE, Metrics
from histo_mlflow.inference.serving.model import ServedModel
from histo_mlflow.inference.serving.page import CSP, PAGE
from histo_mlflow.inference.serving.work import Ticket, Workers
from histo_mlflow.registry.serving_model import COLUMN

logger = logging.getLogger(__name__)

Send = Callable[[Message], Awaitable[None]]
Scope = Mapping[str, Any]

LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read on, so that its sender comes to read the answer."""
SEND_SECONDS = 30.0
OPEN_PATHS = ("/", "/health", "/ready")
METHODS = {
    "/": "GET",
    "/health": "GET",
    "/ready": "GET",
    "/ping": "GET",
    "/version": "GET",
    "/about": "GET",
    "/metrics": "GET",
    "/invocations": "POST",
    "/explain": "POST",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE = Answer(200, PAGE, "text/html; charset=utf-8", {"Content-Security-Policy": CSP})
# What a browser may do with a picture or a text that it was sent to directly: nothing.
_INERT = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}


@dataclass(frozen=True)
class Access:
    """Who may ask; see `access`.

    Attributes:
        hosts: names by which the server may be called, None for any.
        token: None where none is needed.
    """

    hosts: frozenset[str] | None
    token: str | None


class App:
    """The server, as ASGI.

    Args:
        model: answers.
        explainer: draws.
        limits: what a request may cost.
        access: who may ask.
        about: facts of the model, for the page.
    """

    def __init__(
        self,
        model: ServedModel,
        explainer: Explainer,
        limits: Limits,
        access: Access,
        about: Mapping[str, Any],
    ) -> None:
        self._model, self._explainer = model, explainer
        self.limits, self._access, self.about = limits, access, about
        self._budget = Budget(limits.held_bytes)
        self.workers = Workers(limits.workers, limits.queue)
        self.draining = False
        self.open = 0
        self.served = 0
        self.metrics = Metrics()
        self.metrics.name_model(model.version, model.engine.digest)
        self.metrics.watch("histo_queue", "Requests that wait.", lambda: self.workers.waiting)
        self.metrics.watch("histo_running", "Requests computed.", lambda: self.workers.running)
        self.metrics.watch("histo_open", "Requests begun and not answered.", lambda: self.open)
        self.metrics.watch("histo_body_bytes", "Of bodies in memory.", lambda: self._budget.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        path = scope["path"] if scope["path"] in METHODS else "other"
        body = Body(scope["headers"], receive, self.limits, self._budget)
        self.open += 1
        try:
            answer = await self._answered(scope, receive, body)
            self.metrics.requests.labels(path, answer.status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)
            self.served += 1
            await _send(answer, body, send, _has_body(scope["headers"]))
        except GoneError:
            self.metrics.rejected.labels("gone").inc()
        except TimeoutError:
            # Leaving without an end makes the server close the connection.
            self.metrics.rejected.labels("slow_reader").inc()
        finally:
            body.close()
            self.open -= 1

    async def _answered(self, scope: Scope, receive: Receive, body: Body) -> Answer:
        """An answer, whatever happens.

        Raises:
            GoneError: there is nobody to answer.
        """
        try:
            return await self._routed(scope, receive, body)
        except RefusedError as error:
            refused = error
        except ImageError as error:
            refused = RefusedError(400, "image", str(error))
        except GoneError:
            raise
        except Exception:
            logger.exception("a request failed")
            refused = RefusedError(500, "fault", "The server failed; its log says why.")
        self.metrics.rejected.labels(refused.reason).inc()
        return refused.answer()

    async def _routed(self, scope: Scope, receive: Receive, body: Body) -> Answer:
        path, method, headers = scope["path"], scope["method"], scope["headers"]
        access.check_host(headers, self._access.hosts)
        if path not in OPEN_PATHS:
            access.check_token(headers, self._access.token)
        if path not in METHODS:
            raise RefusedError(404, "path", "There is nothing at this path.")
        allowed = ("POST",) if METHODS[path] == "POST" else ("GET", "HEAD")
        if method not in allowed:
            raise RefusedError(
                405, "method", f"Send {allowed[0]} to this path.", {"Allow": ", ".join(allowed)}
            )
        if METHODS[path] == "POST":
            access.check_origin(headers)
            return await self._computed(scope, receive, body)
        return self._told(path)

    def _told(self, path: str) -> Answer:
        match path:
            case "/":
                return _PAGE
            case "/health":
                return as_json({"status": "alive"})
            case "/ready":
                return self._ready()
            case "/ping":
                return Answer(200, b"\n")
            case "/version":
                return Answer(200, VERSION.encode())
            case "/about":
                return as_json(self.about)
            case _:
                return Answer(200, self.metrics.text(), CONTENT_TYPE)

    def _ready(self) -> Answer:
        if self.draining:
            return as_json({"status": "ending"}, 503)
        if self.workers.full:
            return as_json({"status": "busy"}, 503)
        return as_json({"status": "ready"})

    async def _computed(self, scope: Scope, receive: Receive, body: Body) -> Answer:
        if self.draining:
            raise RefusedError(503, "ending", "The server is ending: ask another one.")
        if self.workers.full:
            raise RefusedError(503, "queue_full", "The server is busy: try again later.")
        kind = payload.media_type(access.header(scope["headers"], b"content-type"))
        class_index = None
        if scope["path"] == "/explain":
            class_index = self._class_index(kind, scope["query_string"])
        data = await body.read()
        gone = asyncio.ensure_future(_left(receive))
        ticket = Ticket(self.limits.seconds)
        try:
            if scope["path"] == "/explain":
                return await self.workers.run(
                    lambda ticket: self._explained(bytes(data), class_index, ticket), ticket, gone
                )
            answer, images = await self.workers.run(
                lambda ticket: self._model.score(kind, data, ticket), ticket, gone
            )
        finally:
            gone.cancel()
        self.metrics.images.inc(images)
        return Answer(200, answer)

    def _class_index(self, kind: payload.MediaType, query: bytes) -> int | None:
        """Whose evidence is asked for; None for the likeliest class."""
        if kind.name not in payload.IMAGES:
            raise RefusedError(415, "content_type", "Send one image: JPEG, PNG or TIFF.")
        if self._explainer.why_not is not None:
            raise RefusedError(400, "explain", self._explainer.why_not)
        names = parse_qs(query.decode("latin-1"), max_num_fields=8).get("class", [])
        if not names:
            return None
        if names[0] not in self._model.engine.classes:
            raise RefusedError(400, "explain", "The model has no class of that name.")
        return list(self._model.engine.classes).index(names[0])

    def _explained(self, data: bytes, class_index: int | None, ticket: Ticket) -> Answer:
        """In a thread: the answer to one image, and where it comes from."""
        row = self._model.answer(pd.DataFrame({COLUMN: [data]}, dtype=object), ticket)
        classes = list(self._model.engine.classes)
        shown = classes.index(row["class"][0]) if class_index is None else class_index
        ticket.check()
        try:
            found = self._explainer.explain(data, shown, max_pixels=self.limits.pixels)
        except ModelError as error:
            logger.exception("no Grad-CAM")
            raise RefusedError(500, "model", "The model's gradients are no numbers.") from error
        pictures = {
            name: f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
            for name, png in (("seen", found.seen), ("overlay", found.overlay))
        }
        prediction = row.to_dict(orient="records")[0]
        return as_json(
            {
                "prediction": prediction,
                "explained": classes[shown],
                "speaks": found.speaks,
                **pictures,
            }
        )


async def _left(receive: Receive) -> None:
    """Wait until the client leaves; its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _has_body(headers: access.RawHeaders) -> bool:
    length = access.header(headers, b"content-length")
    return length not in (None, "0") or access.header(headers, b"transfer-encoding") is not None


async def _send(answer: Answer, body: Body, send: Send, has_body: bool) -> None:
    """Send an answer.

    The rest of a body that was not read to its end is read on for a moment after the answer has
    gone out whole, and thrown away: a connection that is closed with bytes unread is reset, and
    with it goes the answer that the client has not read yet.

    Raises:
        TimeoutError: the client does not take it.
    """
    unread = has_body and not body.whole
    headers = {
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        **_HEADERS,
        **_INERT,
        **answer.headers,
        **({"Connection": "close"} if unread else {}),
    }
    raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers.items()]
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": answer.body, "more_body": unread})
    if unread:
        await body.discard(LINGER_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
