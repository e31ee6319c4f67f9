"""Which path does what, and that nothing but one sentence leaves the server."""

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from mlflow.version import VERSION

from serving_client import HOST, Make, StandIn, png

TOKEN = "correct-horse-battery"
BEARER = (b"authorization", b"Bearer " + TOKEN.encode())
IMAGE, PNG, JSON = png(1), b"image/png", b"application/json"


def test_the_paths_that_tell(client_of: Make) -> None:
    client = client_of()
    assert client("GET", "/health").json == {"status": "alive"}
    assert client("GET", "/ready").json == {"status": "ready"}
    assert (client("GET", "/ping").status, client("GET", "/ping").body) == (200, b"\n")
    assert client("GET", "/version").body.decode() == VERSION
    assert client("GET", "/about").json == {"version": "stand-in v1"}
    assert client("GET", "/").headers["content-type"] == "text/html; charset=utf-8"
    assert client("HEAD", "/health").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/invocations", 405),
        ("POST", "/", 405),
        ("DELETE", "/health", 405),
        ("OPTIONS", "/invocations", 405),
        ("TRACE", "/explain", 405),
    ],
)
def test_wrong_paths_and_methods(client_of: Make, method: str, path: str, status: int) -> None:
    answer = client_of()(method, path)
    assert answer.status == status
    assert set(answer.json) == {"error_code", "message"}
    assert ("allow" in answer.headers) == (status == 405)


def test_no_answer_may_be_framed_sniffed_kept_or_read_by_other_sites(client_of: Make) -> None:
    client = client_of()
    for path in ("/", "/about", "/nothing"):
        headers = client("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert not [name for name in headers if name.startswith("access-control-")]


def test_the_page_holds_nothing_of_the_model_and_names_no_other_place(client_of: Make) -> None:
    page = client_of()("GET", "/").body.decode()
    assert "stand-in" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "not a medical device" in page.lower()


def test_a_token_is_asked_for_everywhere_but_where_no_secret_is(client_of: Make) -> None:
    client = client_of(token=TOKEN)
    for path in ("/", "/health", "/ready"):
        assert client("GET", path).status == 200
    for path in ("/ping", "/version", "/about", "/metrics", "/nothing"):
        assert client("GET", path).status == 401
        assert client("GET", path, headers=[BEARER]).status in (200, 404)
    for path in ("/invocations", "/explain"):
        answer = client("POST", path, IMAGE, kind=PNG)
        assert (answer.status, answer.json["error_code"]) == (401, "UNAUTHENTICATED")
    assert client("POST", "/invocations", IMAGE, [BEARER], kind=PNG).status == 200


def test_another_name_and_another_origin_are_refused(client_of: Make) -> None:
    client = client_of()
    evil = (b"host", b"evil.test")
    assert client("GET", "/health", headers=[evil], host=False).status == 400
    assert client("GET", "/health", host=False).status == 400
    cross = (b"origin", b"http://evil.test")
    answer = client("POST", "/invocations", IMAGE, [cross], kind=PNG)
    assert (answer.status, answer.json["error_code"]) == (403, "PERMISSION_DENIED")
    own = (b"origin", b"http://" + HOST[1])
    assert client("POST", "/invocations", IMAGE, [own], kind=PNG).status == 200


def test_what_is_refused_before_its_body_is_read_is_answered_at_once_and_then_closed(
    client_of: Make,
) -> None:
    client = client_of(body_bytes=1000)
    answer = client("POST", "/invocations", [b"x" * 500] * 50, kind=PNG)
    assert (answer.status, answer.headers["connection"], answer.late) == (413, "close", True)
    answer = client("POST", "/invocations", [b"x" * 500] * 2, kind=b"text/plain")
    assert (answer.status, answer.headers["connection"]) == (415, "close")
    answer = client("POST", "/invocations", b"x" * 500, kind=PNG)
    assert (answer.status, answer.late) == (400, False)
    assert "connection" not in answer.headers


def test_a_rest_that_never_comes_is_not_waited_for_long(
    client_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("histo_mlflow.inference.serving.app.LINGER_SECONDS", 0.1)
    started = time.perf_counter()
    answer = client_of()("POST", "/nothing", [b"x"] * 1000, kind=PNG, pause=0.05)
    assert answer.status == 404
    assert time.perf_counter() - started < 1


def test_a_slow_body_is_408_and_takes_no_place_in_the_queue(client_of: Make) -> None:
    client = client_of(queue=0, pause_seconds=0.3)

    async def run() -> tuple[Any, Any]:
        sent = client.send("POST", "/invocations", [b"x"] * 9, kind=PNG, pause=9)
        slow = asyncio.ensure_future(sent)
        await asyncio.sleep(0.05)
        quick = await client.send("POST", "/invocations", IMAGE, kind=PNG)
        return await asyncio.wait_for(slow, 5), quick

    slow, quick = asyncio.run(run())
    assert (slow.status, slow.json["error_code"]) == (408, "REQUEST_TIMEOUT")
    assert quick.status == 200


def test_a_request_that_takes_too_long_is_504_and_the_next_is_served(
    client_of: Make, stand_in: StandIn
) -> None:
    client = client_of(seconds=3)
    stand_in.go.clear()
    body = json.dumps({"inputs": [base64.b64encode(IMAGE).decode()] * 200}).encode()

    async def run() -> tuple[Any, Any]:
        first = await client.send("POST", "/invocations", body, kind=JSON)
        stand_in.go.set()
        return first, await client.send("POST", "/invocations", IMAGE, kind=PNG)

    late, good = asyncio.run(run())
    assert (late.status, late.json["error_code"]) == (504, "DEADLINE_EXCEEDED")
    assert good.status == 200
    assert stand_in.batches == 2  # one of the four of the late request, and the good one


def test_a_full_queue_is_503_with_a_time_to_come_again_and_not_ready(
    client_of: Make, stand_in: StandIn
) -> None:
    client = client_of(queue=1)
    stand_in.go.clear()

    async def run() -> tuple[Any, ...]:
        held = [
            asyncio.ensure_future(client.send("POST", "/invocations", IMAGE, kind=PNG))
            for _ in range(2)
        ]
        while not client.app.workers.full:
            await asyncio.sleep(0.005)
        refused = await client.send("POST", "/invocations", IMAGE, kind=PNG)
        ready = await client.send("GET", "/ready")
        alive = await client.send("GET", "/health")
        stand_in.go.set()
        return refused, ready, alive, await asyncio.gather(*held)

    refused, ready, alive, held = asyncio.run(run())
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert (ready.status, ready.json) == (503, {"status": "busy"})
    assert alive.status == 200
    assert [answer.status for answer in held] == [200, 200]


def test_a_client_that_leaves_frees_its_place_and_its_bytes(
    client_of: Make, stand_in: StandIn
) -> None:
    client = client_of(queue=0)
    stand_in.go.clear()

    async def run() -> tuple[Any, Any]:
        leave = asyncio.Event()
        sent = client.send("POST", "/invocations", IMAGE, kind=PNG, leave=leave)
        leaving = asyncio.ensure_future(sent)
        await asyncio.to_thread(stand_in.entered.wait, 5)
        leave.set()
        nothing = await leaving
        stand_in.go.set()
        while client.app.workers.running:
            await asyncio.sleep(0.005)
        return nothing, await client.send("POST", "/invocations", IMAGE, kind=PNG)

    nothing, good = asyncio.run(run())
    assert nothing is None
    assert good.status == 200
    assert (client.app._budget.held, client.app.open) == (0, 0)


def test_a_draining_server_refuses_what_is_new(client_of: Make) -> None:
    client = client_of()
    client.app.draining = True
    ready = client("GET", "/ready")
    assert (ready.status, ready.json) == (503, {"status": "ending"})
    assert client("GET", "/health").status == 200
    answer = client("POST", "/invocations", IMAGE, kind=PNG)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("path", ["raw", "through mlflow"])
@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("/secret/path"), 500), (MemoryError("/secret/path"), 503)],
)
def test_a_model_that_fails_tells_its_log_and_not_the_client(
    client_of: Make, stand_in: StandIn, caplog: Any, error: Exception, status: int, path: str
) -> None:
    client = client_of()
    table = json.dumps({"inputs": [base64.b64encode(IMAGE).decode()]}).encode()
    body, kind = (IMAGE, PNG) if path == "raw" else (table, JSON)
    stand_in.raises = error
    answer = client("POST", "/invocations", body, kind=kind)
    assert answer.status == status
    assert "secret" not in answer.body.decode()
    assert "/secret/path" in caplog.text
    stand_in.raises = None
    assert client("POST", "/invocations", body, kind=kind).status == 200


def test_metrics_count_requests_images_and_refusals(client_of: Make) -> None:
    client = client_of()
    client("POST", "/invocations", IMAGE, kind=PNG)
    client("POST", "/invocations", b"bad", kind=PNG)
    client("GET", "/no/such/path")
    answer = client("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = set(answer.body.decode().splitlines())
    wanted = {
        'histo_requests_total{path="/invocations",status="200"} 1.0',
        'histo_requests_total{path="/invocations",status="400"} 1.0',
        'histo_requests_total{path="other",status="404"} 1.0',
        'histo_rejected_total{reason="image"} 1.0',
        'histo_rejected_total{reason="path"} 1.0',
        "histo_images_total 1.0",
        "histo_queue 0.0",
        "histo_running 0.0",
        "histo_open 1.0",
        "histo_body_bytes 0.0",
        f'histo_model_info{{digest="{"d" * 64}",version="stand-in v1"}} 1.0',
        'histo_request_seconds_count{path="/invocations"} 2.0',
    }
    assert wanted - lines == set()
