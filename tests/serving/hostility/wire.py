"""Requests as bytes on a socket, so that they may also be wrong ones."""

import json
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CLOSED, SILENT = 0, -1
"""Instead of a status: the connection was closed without an answer, or nothing came in time."""

BUSY = frozenset({503, 504})
"""No fault of the request: the server had too much to do, or its time limit came first."""


@dataclass(frozen=True)
class Answer:
    """What came back; `status` is CLOSED or SILENT where no answer did."""

    status: int
    body: bytes = b""
    seconds: float = 0.0
    head: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    body: bytes = b"",
    *,
    content_type: str | None = "application/json",
    method: str = "POST",
    target: str = "/invocations",
    headers: Iterable[tuple[str, str]] = (),
    length: int | None = None,
) -> bytes:
    """A whole HTTP/1.1 request; `length` is what it claims, if not the truth. -1 claims nothing."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(parts: Iterable[bytes]) -> bytes:
    """The parts as a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def exchange(
    port: int, parts: bytes | Iterable[bytes], *, seconds: float = 30.0, pause: float = 0.0
) -> Answer:
    """Send bytes, with pauses between the parts, and read one answer, or what there is of it.

    A server may answer and close before it has read everything; the answer counts then.
    """
    started = time.monotonic()
    pieces = [parts] if isinstance(parts, bytes) else parts
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as link:
        try:
            for piece in pieces:
                link.sendall(piece)
                if pause:
                    time.sleep(pause)
        except OSError:
            pass  # closed by the server while we were sending: its answer may lie there already
        answer, _ = _read(link, started + seconds)
    return Answer(answer.status, answer.body, time.monotonic() - started, answer.head)


def exchange_until_served(
    port: int, data: bytes, *, seconds: float = 60.0, pause: float = 0.2
) -> Answer:
    """One answer to a request that is sent again, for so long, while the server is busy or late.

    A slow machine comes to the server's own time limit, and what was late is worked on further.
    """
    deadline = time.monotonic() + seconds
    while (answer := exchange(port, data)).status in BUSY and time.monotonic() < deadline:
        time.sleep(pause)
    return answer


def exchange_many(port: int, requests: list[bytes], *, seconds: float = 30.0) -> list[Answer]:
    """Send all requests on one connection before the first answer is read, then read them all.

    Ends with the first answer that the server did not give.
    """
    started = time.monotonic()
    answers: list[Answer] = []
    rest = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as link:
        link.sendall(b"".join(requests))
        while len(answers) < len(requests):
            answer, rest = _read(link, started + seconds, rest)
            answers.append(answer)
            if answer.status in (CLOSED, SILENT):
                break
    return answers


def _read(link: socket.socket, deadline: float, begun: bytes = b"") -> tuple[Answer, bytes]:
    """One answer, and what came after it; `begun` is what of it has been read before."""
    data = bytearray(begun)
    try:
        while b"\r\n\r\n" not in data:
            data += (more := _receive(link, deadline))
            if not more:
                return Answer(CLOSED, bytes(data)), b""
        head, _, first = bytes(data).partition(b"\r\n\r\n")
        body = bytearray(first)
        status = int(head.split(b" ", 2)[1])
        length = _header(head, b"content-length")
        while length is None or len(body) < int(length):
            body += (more := _receive(link, deadline))
            if not more:
                break
    except TimeoutError:
        return Answer(SILENT, bytes(data)), b""
    except ConnectionError:
        return Answer(CLOSED, bytes(data)), b""
    end = len(body) if length is None else int(length)
    return Answer(status, bytes(body[:end]), head=head), bytes(body[end:])


def _receive(link: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    link.settimeout(left)
    return link.recv(1 << 16)


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def send_and_leave(port: int, data: bytes) -> Answer:
    """Send bytes and hang up at once, with a reset, as a client that was killed does."""
    link = socket.create_connection(("127.0.0.1", port), timeout=10)
    link.sendall(data)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    link.close()
    return Answer(CLOSED)
