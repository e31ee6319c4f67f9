"""A training of twenty epochs against a real server that is stopped, killed, wrong or rude.

Afterwards the database must hold what an undisturbed run leaves there: every point once. It is read
with SQL, so that nothing of the code under test, nor of MLflow's client, takes part.
"""

import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_proxy import BadProxy, Mode

from histo_mlflow.errors import Interrupted, TrackingError
from histo_mlflow.tracking.delivery import Delivery, deliver
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect

pytestmark = pytest.mark.alone

EPOCHS = 20
MAX_STALL_S = 1.0


def metrics(epoch: int) -> dict[str, float]:
    return {f"val/m{i}": math.sin(epoch * 10 + i) for i in range(10)}


EXPECTED = {
    (f"val/m{i}", epoch): math.sin(epoch * 10 + i) for epoch in range(EPOCHS) for i in range(10)
}


@pytest.fixture(autouse=True)
def _a_quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall is to be the server's doing; that the journal waits for the disk is tested there."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


@pytest.fixture
def proxy(server) -> Iterator[BadProxy]:
    proxy = BadProxy(server.uri)
    yield proxy
    proxy.close()


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"{seconds:.0f} s in vain: {what}"
        time.sleep(0.02)


def begin(uri: str, journal: Path, **options: object) -> TrackedRun:
    options = {"retry_seconds": (0.1, 0.3), **options}
    return start_run(
        connect(uri), "outages", None, {}, {}, journal_path=journal, key=journal.parent.name,
        **options,
    )  # fmt: skip


def train(
    run: TrackedRun, *, pause: float = 0.1, at: dict[int, Callable[[], object]] | None = None
) -> None:
    for epoch in range(EPOCHS):
        if at and epoch in at:
            at[epoch]()
        time.sleep(pause)
        run.log_epoch(epoch, metrics(epoch))
    print(f"longest stall {1000 * run.longest_stall_s:.1f} ms")
    assert run.longest_stall_s < MAX_STALL_S


def assert_whole(database: Path, run_id: str, journal: Path) -> None:
    """Every point that was logged is there once, with its value; system metrics as well."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select key, step, value from metrics where run_uuid = ?", (run_id,)
        ).fetchall()
    doubled = [point for point, n in Counter((key, step) for key, step, _ in rows).items() if n > 1]
    assert doubled == []
    held = {(key, step): value for key, step, value in rows}
    assert {p: v for p, v in held.items() if not p[0].startswith("system/")} == EXPECTED
    noted = {(p.key, p.step): p.value for p in Journal(journal).points()}
    assert held == noted
    system = {step for key, step in held if key == "system/disk_usage_percentage"}
    assert system == set(range(len(system)))


def only_run(database: Path, key: str) -> str:
    with sqlite3.connect(database) as connection:
        (row,) = connection.execute(
            "select run_uuid from tags where key = 'histo.key' and value = ?", (key,)
        ).fetchall()
    return str(row[0])


@pytest.mark.parametrize(
    ("mode", "only"),
    [
        ("error", ""),
        ("reset", "log-batch"),
        ("hang", ""),
        ("empty", "log-batch"),
        ("gone", ""),
        pytest.param("reset", "", marks=pytest.mark.slow),
        pytest.param("refuse", "", marks=pytest.mark.slow),
        pytest.param("denied", "", marks=pytest.mark.slow),
        pytest.param("later", "", marks=pytest.mark.slow),
        pytest.param("odd", "", marks=pytest.mark.slow),
    ],
)
def test_a_rude_server_loses_and_doubles_nothing(
    server,
    proxy: BadProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: Mode,
    only: str,
) -> None:
    # A batch that takes longer is sent again, so the time is short only while nothing is taken.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    enough = 2 if mode == "hang" else 1  # the second comes after the first ran into its timeout

    def be_rude() -> None:
        proxy.behave(mode, only)
        if mode == "hang":
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")

    def be_good() -> None:
        until(lambda: proxy.mishaps >= enough, "requests that meet the rude server")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        proxy.behave("pass")

    journal = tmp_path / "metrics.jsonl"
    run = begin(proxy.uri, journal)
    train(run, pause=0.06, at={5: be_rude, 16: be_good})
    run.end("finished")
    assert_whole(server.database, run.run_id, journal)
    taken = Counter(proxy.points_taken())
    assert [point for point, n in taken.items() if n > 1] == []  # nor was any sent again in vain


def test_points_that_the_server_lost_after_it_took_them_are_there_at_the_end(
    server, tmp_path: Path
) -> None:
    """As when it comes back with an older copy of its database."""
    journal = tmp_path / "metrics.jsonl"
    run = begin(server.uri, journal)
    train(run, pause=0.0)
    assert run.flush(30) == 0
    with sqlite3.connect(server.database) as connection:
        for table in ("metrics", "latest_metrics"):
            connection.execute(
                f"delete from {table} where run_uuid = ? and step > 9", (run.run_id,)
            )
    run.end("finished")
    assert_whole(server.database, run.run_id, journal)


def test_a_store_that_cannot_be_asked_at_the_end_is_told(
    server, proxy: BadProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("histo_mlflow.tracking.run.END_WHOLE_SECONDS", 10.0)
    run = begin(proxy.uri, tmp_path / "metrics.jsonl", system_metrics=False)
    train(run, pause=0.0)
    assert run.flush(30) == 0
    proxy.behave("denied", "get-history")
    with pytest.raises(TrackingError) as caught:
        run.end("finished")
    assert str(caught.value) == (
        f"run {run.run_id} is closed as finished, and whether all metric points arrived is not "
        "known (the server denies this to us); nothing is lost: "
        f"histo-mlflow runs sync {tmp_path}"
    )


def test_a_lost_answer_to_the_making_of_a_run_makes_no_second_one(
    server, proxy: BadProxy, tmp_path: Path
) -> None:
    proxy.behave("reset", "runs/create")
    run = begin(proxy.uri, tmp_path / "metrics.jsonl", system_metrics=False)
    proxy.behave("pass")
    run.end("finished")
    assert only_run(server.database, tmp_path.name) == run.run_id


def test_a_stopped_server_that_goes_on_gets_every_point_once(server, tmp_path: Path) -> None:
    journal = tmp_path / "metrics.jsonl"
    run = begin(server.uri, journal)
    try:
        train(
            run,
            pause=0.25,
            at={
                4: lambda: server.signal(signal.SIGSTOP),
                18: lambda: server.signal(signal.SIGCONT),
            },
        )
    finally:
        server.signal(signal.SIGCONT)
    run.end("finished")
    assert_whole(server.database, run.run_id, journal)


def outage(server, seconds: float) -> threading.Thread:
    """Kill the server now, and start it again on its port after a while."""
    server.kill()
    back = threading.Timer(seconds, server.start)
    back.start()
    return back


@pytest.mark.slow  # waits for its 30 s
def test_an_outage_of_30_s_with_the_pauses_that_users_have(server, tmp_path: Path) -> None:
    from histo_mlflow.tracking.outbox import RETRY_SECONDS

    journal = tmp_path / "metrics.jsonl"
    run = begin(server.uri, journal, retry_seconds=RETRY_SECONDS)
    back: list[threading.Thread] = []
    train(run, pause=2.2, at={4: lambda: back.append(outage(server, 30.0))})
    back[0].join()
    server.wait()
    until(lambda: not run.undelivered, "the store is back, but not found to be")
    run.end("finished")
    assert_whole(server.database, run.run_id, journal)


SCRIPT = """
import math, sys, time
from pathlib import Path
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
uri, journal, first = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
run = start_run(connect(uri), "outages", None, {"lr": 1e-3}, {}, journal_path=journal,
                key=journal.parent.name, retry_seconds=(0.1, 0.3))
with run:
    for epoch in range(first, 20):
        time.sleep(0.15)
        run.log_epoch(epoch, {f"val/m{i}": math.sin(epoch * 10 + i) for i in range(10)})
        print(epoch, flush=True)
"""


def test_a_killed_process_that_is_resumed_from_an_older_epoch_leaves_every_point_once(
    server, proxy: BadProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is killed while answers get lost, the second while the server hangs."""
    journal = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # else a slow batch is sent again
    rude: list[tuple[int, Mode, str, int]] = [(0, "reset", "log-batch", 7), (6, "hang", "", 12)]
    for first, mode, only, last in rude:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, proxy.uri, str(journal), str(first)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == first + 2:
                proxy.behave(mode, only)
            if int(line) == last:
                process.kill()
                break
        assert process.wait(10) == -signal.SIGKILL
        process.stdout.close()
        proxy.forget()
    run = begin(proxy.uri, journal)
    train(run, pause=0.05)
    run.end("finished")
    assert run.run_id == only_run(server.database, tmp_path.name)
    assert_whole(server.database, run.run_id, journal)
    assert max(Counter(proxy.points_taken()).values()) == 1


def test_who_is_interrupted_does_not_wait_for_a_dead_server(
    proxy: BadProxy, tmp_path: Path
) -> None:
    run = begin(proxy.uri, tmp_path / "metrics.jsonl")
    proxy.behave("hang")
    run.log_epoch(0, metrics(0))
    start = time.monotonic()
    with pytest.raises(Interrupted) as caught, run:
        raise Interrupted(15)
    assert time.monotonic() - start < 12.0  # 5 s are its own, and for a whole run it would be 60
    (note,) = caught.value.__notes__
    assert note.endswith(f"nothing is lost: histo-mlflow runs sync {tmp_path}")


@pytest.mark.slow
def test_of_two_runs_of_a_killed_server_one_waits_and_one_is_synced_later(
    server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the first the server never comes back, for the second it does before its end."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    journal, second_journal = (tmp_path / name / "metrics.jsonl" for name in ("first", "second"))
    run, second = begin(server.uri, journal), begin(server.uri, second_journal)
    train(run, at={8: lambda: (run.flush(30), server.kill())})
    with monkeypatch.context() as patch:
        patch.setattr("histo_mlflow.tracking.run.END_WHOLE_SECONDS", 1.5)
        with pytest.raises(TrackingError) as caught:
            run.end("finished")
    said = re.search(r"so it is not closed there, and (\d+) metric points", str(caught.value))
    assert said is not None, str(caught.value)
    system = [p for p in Journal(journal).points() if p.key.startswith("system/")]
    assert 120 <= int(said[1]) <= 120 + len(system)
    command = f"; nothing is lost: histo-mlflow runs sync {journal.parent}"
    assert str(caught.value).endswith(command)
    with pytest.raises(TrackingError, match="the connection was refused"):
        deliver(run.store, run.run_id, journal, timeout_s=5)
    train(second, pause=0.02)
    assert second.undelivered >= len(EXPECTED)

    server.start()
    server.wait()
    second.end("finished")
    assert_whole(server.database, second.run_id, second_journal)
    found = deliver(connect(server.uri), run.run_id, journal, timeout_s=60)
    assert found.sent >= 120
    assert found.already_there > 0
    assert (found.refused, found.waiting) == (0, 0)
    assert_whole(server.database, run.run_id, journal)
    everything = found.sent + found.already_there
    again = deliver(run.store, run.run_id, journal, timeout_s=60)
    assert again == Delivery(0, everything, 0, 0)
