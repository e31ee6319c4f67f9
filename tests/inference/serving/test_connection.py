"""The socket's side, with a real server in a thread."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from histo_mlflow.errors import ServeError
from histo_mlflow.inference.serving.connection import _Server, serve
from histo_mlflow.inference.serving.listen import listen
from serving_client import Make, StandIn, png

IMAGE = png(1)
POST = (
    b"POST /invocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
    b"content-length: %d\r\n\r\n"
)
WHOLE = POST % len(IMAGE) + IMAGE


@contextmanager
def serving(make: Make, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> Iterator[Any]:
    """A served stand-in: (its application, a function that connects, one that ends it)."""
    app = make(**limits).app
    started, servers = threading.Event(), []
    monkeypatch.setattr(
        _Server, "run", lambda self, sockets: (servers.append(self), _run(self, sockets))[1]
    )
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    said: list[str] = []
    thread = threading.Thread(
        target=lambda: serve(app, taken, started=started.set, ending=said.append), daemon=True
    )
    thread.start()
    assert started.wait(10)

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=10)

    def end() -> None:
        servers[0].handle_exit(signal.SIGTERM, None)

    try:
        yield app, connect, end, thread, said
    finally:
        end()
        thread.join(10)
        taken.close()
        assert not thread.is_alive()


_run = _Server.run


def answer(connection: socket.socket, *, whole: bool = True) -> tuple[int, Any]:
    """Status and JSON of what comes until the connection is closed, or one answer of it."""
    data = b""
    while part := connection.recv(65536):
        data += part
        head, _, body = data.partition(b"\r\n\r\n")
        if not whole and b"content-length: %d\r\n" % len(body) in head + b"\r\n":
            break
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def test_requests_are_answered_on_one_connection(client_of: Make, monkeypatch: Any) -> None:
    with serving(client_of, monkeypatch) as (_, connect, *_), connect() as connection:
        for _ in range(3):
            connection.sendall(WHOLE)
            status, said = answer(connection, whole=False)
            assert (status, len(said["predictions"])) == (200, 1)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nhost: localhost\r\n"])
def test_a_head_that_does_not_come_is_408_and_closed(
    client_of: Make, monkeypatch: Any, sent: bytes
) -> None:
    limits = {"pause_seconds": 0.2}
    with serving(client_of, monkeypatch, **limits) as (_, connect, *_), connect() as connection:
        connection.sendall(sent)
        status, said = answer(connection)
    assert (status, said["error_code"]) == (408, "REQUEST_TIMEOUT")


def test_neither_does_a_second_head_on_the_same_connection(
    client_of: Make, monkeypatch: Any
) -> None:
    limits = {"pause_seconds": 0.2}
    with serving(client_of, monkeypatch, **limits) as (_, connect, *_), connect() as connection:
        connection.sendall(WHOLE)
        assert answer(connection, whole=False)[0] == 200
        connection.sendall(b"POST /invoc")
        assert answer(connection)[0] == 408


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 40_000,
        b"nonsense\r\n\r\n",
    ],
    ids=["TLS", "two hosts", "no host", "length", "head of 40 kB", "nonsense"],
)
def test_what_is_no_http_gets_one_sentence(client_of: Make, monkeypatch: Any, sent: bytes) -> None:
    with serving(client_of, monkeypatch) as (_, connect, *_), connect() as connection:
        connection.sendall(sent)
        status, said = answer(connection)
    assert status == 400
    assert set(said) == {"error_code", "message"}


def test_one_connection_too_many_is_told_so(client_of: Make, monkeypatch: Any) -> None:
    with serving(client_of, monkeypatch, connections=2) as (_, connect, *_):
        with connect() as first, connect():
            first.sendall(WHOLE)
            assert answer(first, whole=False)[0] == 200
            with connect() as third:
                assert answer(third)[0] == 503
        time.sleep(0.1)
        with connect() as later:
            later.sendall(WHOLE)
            assert answer(later, whole=False)[0] == 200


def test_a_large_body_gets_its_answer_before_it_is_sent_to_its_end(
    client_of: Make, monkeypatch: Any
) -> None:
    # As long as 20 MB may take on a busy machine.
    monkeypatch.setattr("histo_mlflow.inference.serving.app.LINGER_SECONDS", 20)
    with serving(client_of, monkeypatch, body_bytes=100_000) as (app, connect, *_):
        with connect() as connection:
            connection.sendall(POST % 50_000_000 + b"x" * 200_000)
            status, said = answer(connection, whole=False)
        assert (status, said["error_code"]) == (413, "REQUEST_TOO_LARGE")
        with connect() as connection:  # and who sends first and reads then gets it as well
            connection.sendall(POST % 20_000_000 + b"x" * 20_000_000)
            assert answer(connection, whole=False)[0] == 413
        assert app._budget.held == 0


def test_the_ending_waits_for_what_has_begun_and_refuses_what_is_new(
    client_of: Make, monkeypatch: Any, stand_in: StandIn
) -> None:
    stand_in.go.clear()
    with serving(client_of, monkeypatch) as (_, connect, end, thread, said):
        with connect() as begun, connect() as late, connect() as asking:
            begun.sendall(WHOLE)
            assert stand_in.entered.wait(5)
            end()
            late.sendall(WHOLE)
            assert answer(late, whole=False)[0] == 503
            asking.sendall(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert answer(asking, whole=False) == (503, {"status": "ending"})
            assert thread.is_alive()
            stand_in.go.set()
            assert answer(begun, whole=False)[0] == 200
            thread.join(10)
            assert not thread.is_alive()
        assert said == ["SIGTERM"]


@pytest.mark.parametrize(
    ("handler", "heard"), [(signal.SIG_DFL, "SIGHUP"), (signal.SIG_IGN, "SIGTERM")]
)
def test_a_terminal_that_closes_ends_it_unless_nohup_has_that_ignored(
    handler: Any, heard: str, client_of: Make
) -> None:
    said: list[str] = []

    def started() -> None:
        for number in (signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGHUP, handler)
    try:
        with listen("127.0.0.1", 0) as taken:
            serve(client_of().app, taken, started=started, ending=said.append)
        assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said == [heard]


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServeError, match=f"Port {port} of 127.0.0.1 cannot be served on"):
            listen("127.0.0.1", port)
    with pytest.raises(ServeError, match="which is unknown"):
        listen("no.such.host.invalid", 0)
