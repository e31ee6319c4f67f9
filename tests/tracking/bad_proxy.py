"""An HTTP proxy on loopback that can be told, while it runs, to behave badly."""

import http.client
import http.server
import json
import socket
import struct
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

# error: 500 without forwarding. reset: forwarded, so the server has committed, then the connection
# is reset instead of an answer. hang: nothing comes until the mode changes. refuse: reset at once.
# The others are what something between us and the server answers in its place.
Mode = Literal[
    "pass", "error", "reset", "hang", "refuse", "empty", "denied", "gone", "later", "odd"
]
_HTML = b"<html><body>not here</body></html>"
_ANSWERS: dict[Mode, tuple[int, bytes, dict[str, str]]] = {
    "error": (500, b'{"error_code": "INTERNAL_ERROR", "message": "told to"}', {}),
    "empty": (200, b"", {}),
    "denied": (403, b'{"error_code": "PERMISSION_DENIED", "message": "told to"}', {}),
    "gone": (404, _HTML, {}),
    "later": (503, _HTML, {"Retry-After": "100"}),
    "odd": (502, b'{"error_code": {"a": 1}, "message": "told to"}', {}),
}


class BadProxy:
    """Stands before a real server; `log` holds what the server took, in order.

    `only` limits the mode to addresses that contain it; others pass.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.log: list[tuple[str, dict[str, object]]] = []
        self.mishaps = 0
        self._mode: Mode = "pass"
        self._only = ""
        self._connections = 0
        self._changed = threading.Condition()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._handle(self)

            def setup(self) -> None:
                proxy._count(+1)
                super().setup()

            def finish(self) -> None:
                try:
                    super().finish()
                finally:
                    proxy._count(-1)

            do_GET = do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None: ...

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # a client that gave up
        self.uri = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def behave(self, mode: Mode, only: str = "") -> None:
        with self._changed:
            self._mode, self._only = mode, only
            self._changed.notify_all()

    def forget(self, seconds: float = 60.0) -> None:
        """After the client's end: wait until nothing of what it asked for is under way any more.

        What has not gone to the server yet never does.
        """
        self.behave("refuse")
        with self._changed:
            ended = self._changed.wait_for(lambda: self._connections == 0, seconds)
        assert ended, f"{self._connections} connections are open after {seconds:.0f} s"
        self.behave("pass")

    def close(self) -> None:
        self.behave("refuse")
        self._http.shutdown()
        self._http.server_close()

    def points_taken(self) -> list[tuple[str, int]]:
        """Key and step of every metric point that the server said yes to."""
        found = []
        for path, body in self.log:
            if path.endswith("/log-batch"):
                found += [(m["key"], m.get("step", 0)) for m in body.get("metrics", [])]  # type: ignore[attr-defined]
        return found

    def _count(self, opened: int) -> None:
        with self._changed:
            self._connections += opened
            self._changed.notify_all()

    def _handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._changed:
            mode = self._mode if self._only in request.path else "pass"
            self.mishaps += mode != "pass"
            if mode == "hang":
                self._changed.wait_for(lambda: self._mode != "hang")
        if mode in ("hang", "refuse"):
            self._reset(request)
        elif mode in _ANSWERS:
            self._answer(request, *_ANSWERS[mode])
        else:
            try:
                status, answer = self._forward(request, body)
            except OSError:
                self._reset(request)
                return
            if status == 200 and request.command == "POST":
                self.log.append((request.path, json.loads(body or b"{}")))
            if mode == "reset":
                self._reset(request)
            else:
                self._answer(request, status, answer)

    def _forward(
        self, request: http.server.BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, bytes]:
        onward = http.client.HTTPConnection(self.target, timeout=60)
        # The server's own check of the name that it is called by.
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        try:
            onward.request(request.command, request.path, body, headers)
            answer = onward.getresponse()
            return answer.status, answer.read()
        finally:
            onward.close()

    @staticmethod
    def _answer(
        request: http.server.BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "text/html" if body == _HTML else "application/json")
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @staticmethod
    def _reset(request: http.server.BaseHTTPRequestHandler) -> None:
        linger = struct.pack("ii", 1, 0)
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.connection.close()
        request.close_connection = True
