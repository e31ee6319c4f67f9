"""The client of the hostile requests: it must see every answer, and what is wrong with any."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hostility.connections import pipelined
from hostility.wire import CLOSED, exchange, exchange_many, request

RIGHT = json.dumps({"predictions": [1]}).encode()


def answer(body: bytes = RIGHT, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@contextmanager
def saying(*parts: bytes) -> Iterator[int]:
    """The port of a server that says the parts to its only client, whatever it asks."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        link, _ = listener.accept()
        with link:
            for part in parts:
                link.sendall(part)
            link.shutdown(socket.SHUT_WR)
            while link.recv(1 << 16):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(10)


def test_of_answers_that_come_in_one_piece_each_is_its_own() -> None:
    bodies = [b"first", b"", b"third"]
    whole = b"".join(answer(body) for body in bodies)
    with saying(whole) as port:
        assert exchange(port, request()).body == b"first"
    with saying(whole[:50], whole[50:]) as port:
        assert [one.body for one in exchange_many(port, [request()] * 3)] == bodies


def test_an_answer_that_did_not_come_is_told_and_ends_the_reading() -> None:
    with saying(answer()) as port:
        found = exchange_many(port, [request()] * 3)
    assert [one.status for one in found] == [200, CLOSED]


@pytest.mark.parametrize("position", range(10))
@pytest.mark.parametrize("bad", [answer(b"[]"), answer(b"", "503 Busy"), b""])
def test_one_wrong_answer_of_ten_is_seen(position: int, bad: bytes) -> None:
    parts = [answer()] * position + [bad] + ([answer()] * (9 - position) if bad else [])
    with saying(b"".join([answer()] * 10)) as port:
        assert pipelined(port).body == RIGHT
    with saying(b"".join(parts)) as port:
        told = pipelined(port)
    assert (told.status, told.body) != (200, RIGHT)
