"""A body is counted as it comes, and not waited for without end."""

import asyncio
import gzip
import random
import socket
import time
import zlib
from collections.abc import Iterable
from typing import Any

import pytest

from histo_mlflow.inference.serving.answers import GoneError, RefusedError
from histo_mlflow.inference.serving.body import Body, Budget
from histo_mlflow.inference.serving.limits import MIB, Limits


def read(
    chunks: Iterable[bytes],
    headers: list[tuple[bytes, bytes]] | None = None,
    *,
    pause: float = 0.0,
    end: bool = True,
    budget: Budget | None = None,
    **limits: Any,
) -> tuple[bytes, Body]:
    told = Limits(**limits)
    parts = list(chunks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts) or not end}

    body = Body(headers or [], receive, told, budget or Budget(told.held_bytes))

    async def run() -> bytes:
        return bytes(await body.read())

    return asyncio.run(run()), body


def refused(*arguments: Any, **named: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        read(*arguments, **named)
    return caught.value


def encoding(name: str) -> list[tuple[bytes, bytes]]:
    return [(b"content-encoding", name.encode())]


DATA = random.Random(0).randbytes(700_000) + b"again and again " * 40_000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def test_a_plain_body_comes_whole() -> None:
    assert read([b"ab", b"", b"cd"])[0] == b"abcd"
    assert read([b""])[0] == b""


@pytest.mark.parametrize("cut", [1_000_000, 65_536, 999])
@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("gzip", gzip.compress(DATA)),
        ("x-gzip", gzip.compress(DATA[:5]) + gzip.compress(DATA[5:])),
        ("deflate", zlib.compress(DATA)),
        ("Deflate", raw_deflate(DATA)),
        ("identity", DATA),
    ],
    ids=["gzip", "two members", "deflate", "raw deflate", "identity"],
)
def test_an_encoded_body_is_inflated(name: str, packed: bytes, cut: int) -> None:
    parts = [packed[i : i + cut] for i in range(0, len(packed), cut)]
    assert read(parts, encoding(name), body_bytes=4 * MIB)[0] == DATA


def test_an_announced_length_is_enough_to_refuse() -> None:
    error = refused([], [(b"content-length", b"1001")], body_bytes=1000)
    assert (error.status, error.reason) == (413, "body_too_large")
    assert "1,000 bytes" in str(error)


def test_a_body_that_lies_about_its_length_is_counted() -> None:
    parts = [b"x" * 600] * 3
    assert refused(parts, [(b"content-length", b"5")], body_bytes=1000).status == 413
    assert refused(parts, [(b"transfer-encoding", b"chunked")], body_bytes=1000).status == 413


def test_a_bomb_stops_at_the_cap_and_not_where_it_ends() -> None:
    bomb = gzip.compress(b"\0" * 200 * MIB, 1)
    assert len(bomb) < 2 * MIB
    budget = Budget(100 * MIB)
    started = time.process_time()
    error = refused([bomb], encoding("gzip"), body_bytes=2 * MIB, budget=budget)
    assert error.status == 413
    assert budget.held <= 2 * MIB
    assert time.process_time() - started < 0.5


def test_many_empty_members_are_no_way_round() -> None:
    assert read([gzip.compress(b"") * 2000], encoding("gzip"))[0] == b""


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip", "gzip;q=1", "compress"])
def test_an_unknown_encoding_is_415(name: str) -> None:
    assert refused([b"x"], encoding(name)).status == 415


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gzip", b"no gzip at all"),
        ("gzip", gzip.compress(DATA)[:-9]),
        ("gzip", gzip.compress(DATA)[:5000]),
        ("gzip", gzip.compress(b"x") + b"rubbish"),
        ("deflate", zlib.compress(DATA)[:-1]),
        ("deflate", zlib.compress(b"x") + b"more"),
        ("deflate", b"\xff\xff\xff"),
    ],
    ids=["none", "cut checksum", "cut", "rubbish behind", "cut zlib", "more", "no deflate"],
)
def test_a_damaged_encoding_is_400(name: str, body: bytes) -> None:
    error = refused([body], encoding(name))
    assert (error.status, error.reason) == (400, "encoding")


def test_a_body_that_stops_coming_is_408() -> None:
    started = time.perf_counter()
    error = refused([b"x"] * 3, pause=5, pause_seconds=0.1)
    assert (error.status, error.reason) == (408, "slow_body")
    assert time.perf_counter() - started < 1


def test_a_body_that_trickles_is_408_though_it_never_stops() -> None:
    error = refused([b"x"] * 1000, pause=0.02, pause_seconds=0.2, body_rate=1000)
    assert error.status == 408


def test_a_steady_body_is_waited_for() -> None:
    # All in all it takes longer than any pause may.
    assert len(read([b"x" * 100] * 30, pause=0.05, pause_seconds=1.0, body_rate=100)[0]) == 3000


@pytest.mark.parametrize("moment", ["while it is waited for", "before it is asked for"])
def test_what_came_while_the_server_was_held_up_is_taken(moment: str) -> None:
    limits = Limits(pause_seconds=0.1, body_rate=1000)
    parts: list[bytes] = []

    async def run(ours: socket.socket, theirs: socket.socket) -> bytes:
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def read_socket() -> None:
            loop.remove_reader(ours)
            parts.append(ours.recv(100))
            came.set()

        def hold_up() -> None:
            theirs.sendall(b"last")
            time.sleep(3 * limits.pause_seconds)

        async def receive() -> dict[str, Any]:
            """As uvicorn's: the socket is read when a body is asked for."""
            loop.add_reader(ours, read_socket)
            if parts and moment == "while it is waited for":
                loop.call_soon(hold_up)
            await came.wait()
            came.clear()
            more = parts == [b"first"]
            if more and moment == "before it is asked for":
                hold_up()
            return {"type": "http.request", "body": parts[-1], "more_body": more}

        theirs.sendall(b"first")
        return bytes(await Body([], receive, limits, Budget(1000)).read())

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert asyncio.run(run(ours, theirs)) == b"firstlast"


def test_there_is_an_end_to_waiting() -> None:
    error = refused([b"x" * 10_000] * 100, pause=0.02, pause_seconds=0.5, body_seconds=0.2)
    assert error.status == 408


def test_a_client_that_leaves_is_nobody_to_answer() -> None:
    with pytest.raises(GoneError):
        read([b"half"], end=False)


def test_all_bodies_together_are_bounded_and_given_back() -> None:
    budget = Budget(1000)
    _, first = read([b"x" * 700], budget=budget)
    error = refused([b"x" * 400], budget=budget)
    assert (error.status, error.headers["Retry-After"]) == (503, "1")
    first.close()
    first.close()
    assert budget.held == 0
    assert len(read([b"x" * 400], budget=budget)[0]) == 400


def test_what_a_refused_body_held_is_given_back() -> None:
    budget = Budget(10_000)
    parts = [b"x" * 600] * 3

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": True}

    body = Body([], receive, Limits(body_bytes=1000), budget)
    with pytest.raises(RefusedError):
        asyncio.run(body.read())
    assert budget.held == 600
    body.close()
    assert budget.held == 0
