"""The client of the hostile requests: it must see every answer, and what is wrong with any."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hostility import servers, trial
from hostility.case import CRASH, LONG, TRACE, Case
from hostility.connections import pipelined, worst
from hostility.servers import Server
from hostility.wire import (
    CLOSED,
    SILENT,
    Answer,
    exchange,
    exchange_many,
    exchange_until_served,
    request,
)

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


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """The port of a server that gives each client the next answer, and of the last one any number.

    Each is asked for by one whole request.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    left = list(answers)

    def serve() -> None:
        while True:
            link, _ = listener.accept()
            with link:
                if not link.recv(1 << 16):
                    return  # the test is over
                link.sendall(left.pop(0) if len(left) > 1 else left[0])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        socket.create_connection(listener.getsockname(), timeout=10).close()
        thread.join(10)
        listener.close()


GOOD, LATE, BUSY = answer(), answer(b"{}", "504 Late"), answer(b"{}", "503 Busy")
REFUSED, WRONG = answer(b"{}", "400 Bad"), answer(b"[]")


def tried(folder: Path, *answers: bytes, **options: Any) -> trial.Trial:
    """One case against a server that answers so, once a good request has been answered twice."""
    case = Case("a case", lambda port: exchange(port, request()), **options)
    with answering(GOOD, GOOD, *answers) as port:
        process: Any = SimpleNamespace(pid=os.getpid())
        server = Server("mlflow", port, process, folder)
        oracle: Any = None  # not asked: no case is answered right
        return trial.run(server, [case], [], oracle, settle_seconds=0)


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


@pytest.mark.parametrize("status", ["503 Busy", "504 Late"])
def test_a_request_is_sent_again_while_the_server_is_busy_and_no_longer(status: str) -> None:
    busy = answer(b"{}", status)
    with answering(busy, busy, GOOD) as port:
        assert exchange_until_served(port, request(), pause=0).body == RIGHT
    with answering(busy, GOOD) as port:
        assert exchange_until_served(port, request(), seconds=0).body == b"{}"
    with answering(answer(b"no", "500 Fault"), GOOD) as port:
        assert exchange_until_served(port, request()).status == 500


def test_a_server_that_is_late_with_a_good_request_is_waited_for(tmp_path: Path) -> None:
    found = tried(tmp_path, REFUSED, LATE, BUSY, GOOD)
    assert found.surprises == {}


@pytest.mark.parametrize(
    ("answers", "seconds", "fault"),
    [
        ([REFUSED, LATE], 0.5, "no answer afterwards"),
        ([REFUSED, b""], 60.0, "no answer afterwards"),
        ([REFUSED, LATE, WRONG], 60.0, "another answer afterwards"),
        ([LATE, GOOD, REFUSED, WRONG], 60.0, "another answer afterwards"),
    ],
    ids=["always late", "gone", "wrong when it came", "wrong after the second time"],
)
def test_a_good_request_must_be_answered_as_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[bytes],
    seconds: float,
    fault: str,
) -> None:
    monkeypatch.setitem(trial.BACKLOG_SECONDS, "mlflow", seconds)
    assert tried(tmp_path, *answers).surprises == {"a case": ([fault], [])}


@pytest.mark.parametrize(
    ("answers", "faults"),
    [
        ([LATE, GOOD, REFUSED, GOOD], []),
        ([LATE, LATE, GOOD, REFUSED, GOOD], []),
        ([LATE, GOOD, LATE, GOOD], ["status 504"]),
        ([LATE, GOOD, answer(b"", "500 Fault"), GOOD], [CRASH]),
        ([LATE, GOOD, answer(b"", "201 Made"), GOOD], ["status 201"]),
        ([answer(b"Traceback", "504 Late"), GOOD, REFUSED, GOOD], ["status 504", TRACE]),
    ],
    ids=["refused", "late twice", "late again", "crash", "another status", "shows a trace"],
)
def test_a_case_that_was_late_is_judged_by_what_it_gets_in_time(
    tmp_path: Path, answers: list[bytes], faults: list[str]
) -> None:
    found = tried(tmp_path, *answers)
    assert sorted(found.verdicts[0].faults) == sorted(faults)
    assert (found.surprises == {}) == (faults == [])


def test_where_being_late_is_allowed_it_hides_an_expected_fault_and_no_other(
    tmp_path: Path,
) -> None:
    allowed: dict[str, Any] = {"allowed": frozenset({400, 504}), "known": frozenset({LONG})}
    assert tried(tmp_path, LATE, GOOD, **allowed).surprises == {}
    assert tried(tmp_path, REFUSED, GOOD, **allowed).surprises == {"a case": ([], [LONG])}
    crash = answer(b"", "500 Fault")
    assert tried(tmp_path, crash, GOOD, **allowed).surprises == {"a case": ([CRASH], [LONG])}


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ([200, 200, 200], 200),
        ([200, 503, 200], 503),
        ([200, 504, 503], 504),
        ([504, 504, 504], 504),
        ([504, 500, 200], 500),
        ([200, 500, CLOSED], CLOSED),
        ([200, SILENT, 504], SILENT),
        ([503, 503, 503], SILENT),
        ([200, 200], SILENT),
    ],
)
def test_of_a_crowd_the_worst_answer_is_told(statuses: list[int], told: int) -> None:
    assert worst([Answer(status) for status in statuses], 3).status == told
    assert worst([Answer(200, b"a"), Answer(200, b"b"), Answer(200, b"a")], 3).status == SILENT


def test_a_process_that_ends_while_it_is_looked_at_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    listed = psutil.Process(child.pid)
    child.communicate()
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [listed])
    alive: Any = SimpleNamespace(pid=os.getpid())
    looks = (servers.resident, servers.peak, servers.open_files)
    assert [look(Server("histo", 0, alive, tmp_path)) > 0 for look in looks] == [True] * 3
    for look in looks:  # but the server itself must be there
        with pytest.raises(psutil.NoSuchProcess):
            look(Server("histo", 0, child, tmp_path))
