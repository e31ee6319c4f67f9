"""The socket's side: heads that come slowly, connections without number, an ending in order."""

from __future__ import annotations

import asyncio
import http
import json
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from histo_mlflow.inference.serving.answers import CODES
from histo_mlflow.inference.serving.app import App

_KEEP_ALIVE_SECONDS = 15
_LAST_SECONDS = 5
_HEAD_BYTES = 16 * 1024


def serve(
    app: App,
    taken: socket.socket,
    *,
    started: Callable[[], None],
    ending: Callable[[str], None],
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; then finish what has begun and refuse what is new.

    Args:
        app: answers.
        taken: from `listen`.
        started: told that requests are taken.
        ending: told, by the name of the signal, that the ending has begun.
    """

    config = uvicorn.Config(
        app,
        http=_Guarded,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_LAST_SECONDS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        server = _Server(config, app, started, ending)
        with _hearing_hangups(server):
            server.run(sockets=[taken])
    finally:
        app.workers.close()


@contextmanager
def _hearing_hangups(server: _Server) -> Iterator[None]:
    """While open, a SIGHUP ends like those that uvicorn hears; not where `nohup` has it ignored."""
    if (
        not hasattr(signal, "SIGHUP")
        or threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGHUP) != signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGHUP, server.handle_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


class _Guarded(H11Protocol):
    """uvicorn's connection, which does not wait for the head of a request without end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        assert isinstance(self.config.app, App)  # noqa: S101 -- `serve` made it
        self._limits = self.config.app.limits
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, or refuse one connection too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(503, "The server has too many connections: try again later.")
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait on while a head is incomplete; its first byte starts the time."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._watch()
        else:
            self._unwatch()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP is answered like everything else."""
        self._refuse(400, "The request is not HTTP as this server reads it.")

    def _watch(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self._limits.pause_seconds, self._too_late)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._refuse(408, "The head of the request came too slowly.")

    def _refuse(self, status: int, message: str) -> None:
        self._unwatch()
        if self.transport.is_closing():
            return
        body = json.dumps({"error_code": CODES[status], "message": message}).encode("ascii")
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE, h11.ERROR):
            self.transport.write(
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n".encode("ascii")
                + body
            )
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server, which ends when what has begun is done, and answers until then."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: App,
        started: Callable[[], None],
        ending: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._app, self._started, self._ending = app, started, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so when it is done."""
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; the second SIGINT ends at once."""
        if self._app.draining:
            self.force_exit = self.should_exit = self.force_exit or sig == signal.SIGINT
            return
        self._app.draining = True
        self._ending(signal.Signals(sig).name)

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether all is done."""
        if self._app.draining and not self._app.open:
            self.should_exit = True
        return await super().on_tick(counter)
