"""Cases of bodies, HTTP and clients that do not behave."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hostility.case import (
    ECHO,
    GOOD,
    JSON,
    LONG,
    Case,
    posted,
    rows,
    text,
)
from hostility.wire import (
    CLOSED,
    SILENT,
    Answer,
    chunked,
    exchange,
    exchange_many,
    request,
    send_and_leave,
)


def bodies() -> list[Case]:
    """Bodies that are large, packed, in parts, or not what their length says."""
    good = text(GOOD)
    sound = json.dumps(rows(good)).encode()
    packed = gzip.compress(sound)
    bomb = gzip.compress(b'{"inputs": ["' + b"A" * 100_000_000 + b'"]}', 6)
    large = b'{"inputs": ["' + b"A" * 100_000_000 + b'"]}'
    gz = [("Content-Encoding", "gzip")]
    parts = [("Transfer-Encoding", "chunked")]

    def in_parts(port: int, body: bytes, step: int) -> Answer:
        head = request(content_type=JSON, length=-1, headers=parts)
        return exchange(port, head + chunked(body[k : k + step] for k in range(0, len(body), step)))

    def long_in_parts(port: int) -> Answer:
        return in_parts(port, large, 1 << 20)

    def sound_in_parts(port: int) -> Answer:
        return in_parts(port, sound, 7)

    wrong_part = request(length=-1, headers=parts) + b"zz\r\nabc\r\n0\r\n\r\n"
    closed = {CLOSED, 400, 408, 411, 413, 504}
    return [
        posted("body: 100 MB of text", large, allowed=[400, 413, 504], known=[ECHO]),
        Case("body: 100 MB in parts", long_in_parts, frozenset({400, 413, 504, CLOSED}),
             known=frozenset({ECHO})),
        Case("body: a good one in parts", sound_in_parts, frozenset({200, 411}), (GOOD,)),
        posted("body: gzip", packed, headers=gz, images=[GOOD]),
        posted("body: gzip that unpacks to 100 MB", bomb, headers=gz),
        posted("body: gzip that is none", sound, headers=gz, images=[GOOD]),
        posted("body: gzip cut short", packed[:-20], headers=gz),
        posted("body: an unknown packing", sound, headers=[("Content-Encoding", "zz")],
               images=[GOOD]),
        posted("body: shorter than it claims", sound, length=len(sound) + 100, allowed=closed,
               seconds=20, waits=True),
        posted("body: longer than it claims", sound, length=20, allowed=closed),
        posted("body: claims 100 TB", sound, length=10**14, allowed=closed, seconds=20,
               waits=True),
        posted("body: claims less than nothing", sound, length=-5, allowed=closed),
        posted("body: two lengths", sound, headers=[("Content-Length", "3")], allowed=closed),
        posted("body: a length and parts", sound, headers=parts, allowed=closed, seconds=20,
               waits=True),
        Case("body: a part of a wrong size", lambda port: exchange(port, wrong_part),
             frozenset(closed)),
    ]  # fmt: skip


def lines() -> list[Case]:
    """HTTP itself, misused."""
    good = json.dumps(rows(text(GOOD))).encode()
    not_here = frozenset({400, 404, 405})
    get: dict[str, Any] = {"method": "GET", "content_type": None}

    def raw(data: bytes, allowed: frozenset[int], name: str, **options: Any) -> Case:
        return Case(
            f"HTTP: {name}", lambda port: exchange(port, data, seconds=20), allowed, **options
        )

    broken = frozenset({400, 414, 431, 404, 405, CLOSED, 505})
    return [
        raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), broken, "TLS"),
        raw(b"hello\r\n\r\n", broken, "no request line"),
        raw(b"\0" * 1000 + b"\r\n\r\n", broken, "NULs"),
        raw(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", broken,
            "a target of 100 kB"),
        raw(b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", broken,
            "a header of 200 kB"),
        raw(b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n", broken | {200}, "another version"),
        raw(b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n", broken, "an address as target"),
        raw(request(good).replace(b"\r\n", b"\r\nX-A: b\r\n c\r\n", 1), broken | {200},
            "a folded header", images=(GOOD,)),
        raw(request(method="GET"), not_here, "GET for an answer"),
        raw(request(method="PUT"), not_here, "PUT"),
        raw(request(method="DELETE"), not_here, "DELETE"),
        raw(request(method="TRACE"), not_here, "TRACE"),
        raw(request(method="X" * 50), not_here, "an unknown method"),
        raw(request(b"", target="/ping"), not_here, "POST to /ping"),
        raw(request(**get, target="/../../etc/passwd"), not_here, "path upwards"),
        raw(request(**get, target="/static/..%2f..%2f..%2fetc/passwd"), not_here, "coded path"),
        raw(request(**get, target="/%00"), not_here, "NUL in a target"),
        raw(request(**get, target="//etc/passwd"), not_here, "two slashes"),
        raw(request(**get, target="/openapi.json"), not_here | {200}, "the list of routes"),
        Case("HTTP: ten requests in one go", pipelined, frozenset({200}), (GOOD,)),
    ]  # fmt: skip


def pipelined(port: int) -> Answer:
    """Ten good requests before the first answer is read; of unlike answers nothing is JSON."""
    body = json.dumps(rows(text(GOOD))).encode()
    last = request(body, headers=[("Connection", "close")])
    answers = exchange_many(port, [*[request(body)] * 9, last])
    unlike = [one for one in answers if (one.status, one.body) != (200, answers[0].body)]
    return Answer(unlike[0].status, b"".join(a.body for a in answers)) if unlike else answers[0]


def clients() -> list[Case]:
    """Clients that are slow, go away, or come all at once."""
    good = json.dumps(rows(text(GOOD))).encode()
    whole = request(good)
    late = frozenset({400, 408, 503, 504, CLOSED})
    return [
        Case("client: one byte in 0.1 s, the rest never",
             lambda port: exchange(port, [bytes([b]) for b in whole[:30]], pause=0.1, seconds=20),
             late, known=frozenset({LONG}), waits=True),
        Case("client: the head, then nothing",
             lambda port: exchange(port, whole[: -len(good)], seconds=20), late,
             waits=True),
        Case("client: half a body, then nothing",
             lambda port: exchange(port, whole[:-50], seconds=20), late, waits=True),
        Case("client: connects and says nothing",
             lambda port: exchange(port, b"", seconds=20), late, known=frozenset({LONG}),
             waits=True),
        Case("client: leaves in the head", lambda port: send_and_leave(port, whole[:20]),
             frozenset({CLOSED})),
        Case("client: leaves in the body", lambda port: send_and_leave(port, whole[:-50]),
             frozenset({CLOSED})),
        Case("client: leaves before the answer", lambda port: send_and_leave(port, whole),
             frozenset({CLOSED})),
        Case("client: 50 leave before the answer", leaving, frozenset({CLOSED})),
        Case("client: 32 at once", crowd, frozenset({200, 429, 503}), (GOOD,)),
        Case("client: 200 that only connect", idlers, frozenset({200, 503}), (GOOD,)),
    ]  # fmt: skip


def leaving(port: int) -> Answer:
    whole = request(json.dumps(rows(*[text(GOOD)] * 20)).encode())
    for _ in range(50):
        send_and_leave(port, whole)
    return Answer(CLOSED)


def crowd(port: int) -> Answer:
    """The worst of the answers to 32 good requests sent at once."""
    whole = request(json.dumps(rows(text(GOOD))).encode())
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(exchange(port, whole))) for _ in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return worst(answers, 32)


def worst(answers: Sequence[Answer], expected: int) -> Answer:
    """None at all is worse than a crash, a crash than being late; some must be right, and alike."""
    bodies_of_200 = {answer.body for answer in answers if answer.status == 200}
    late = any(answer.status == 504 for answer in answers)
    if len(answers) < expected or len(bodies_of_200) > 1 or not (bodies_of_200 or late):
        return Answer(SILENT, b"answers differ or are missing")
    return max(answers, key=lambda answer: (answer.status < 1, answer.status == 500, answer.status))


def idlers(port: int) -> Answer:
    """A good request beside 200 connections that say nothing."""
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        time.sleep(0.2)
        return exchange(port, request(json.dumps(rows(text(GOOD))).encode()), seconds=20)
