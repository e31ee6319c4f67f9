"""Against a real `mlflow server`, which stalls for a while in one test."""

import http.server
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from real_server import one_server

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from ports import free_port


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")


def connect_and_time(uri: str) -> tuple[str, float]:
    start = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        connect(uri)
    return str(caught.value), time.monotonic() - start


def test_a_server_that_is_not_there_is_a_plain_error_within_ten_seconds() -> None:
    message, seconds = connect_and_time(f"http://me:hunter2@127.0.0.1:{free_port()}")
    assert seconds < 10
    assert "the connection was refused" in message
    assert "MLFLOW_TRACKING_URI" in message
    assert "hunter2" not in message
    assert "\n" not in message


def test_a_silent_server_is_a_plain_error_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        message, seconds = connect_and_time(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "no answer within 8 s" in message
    assert seconds < 20  # and not what the user has set


def test_a_web_server_that_is_not_mlflow_is_a_plain_error() -> None:
    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        message, seconds = connect_and_time(f"http://127.0.0.1:{other.server_address[1]}")
        other.shutdown()
    assert seconds < 10
    assert "404" in message


def test_an_unknown_host_is_a_plain_error_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve = socket.getaddrinfo

    def unknown(host: str, *others: object, **named: object) -> object:
        """As a resolver that answers; the one of this machine may take its time."""
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message, seconds = connect_and_time("http://no-such-host.invalid:5000")
    assert seconds < 10
    assert "host name is not known" in message


def test_a_run_on_a_server_holds_what_was_logged(server, capfd, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("x")
    store = connect(server.uri)
    with start_run(store, "demo", "over http", {"lr": 1}, {"k": "v"}) as run:
        for epoch in range(5):
            run.log_epoch(epoch, {"train/loss": 1.0 / (epoch + 1)})
        run.log_artifacts(tmp_path)
        run.log_dataset("demo", "ab" * 32, "generated", {"train": 10})
    seen = MlflowClient(tracking_uri=server.uri).get_run(run.run_id)
    assert seen.info.status == "FINISHED"
    assert seen.data.metrics["train/loss"] == 0.2
    assert run.url == f"{server.uri}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    assert capfd.readouterr().out == ""


def test_a_server_that_stalls_does_not_hold_up_training_and_loses_nothing(server) -> None:
    run = start_run(connect(server.uri), "demo", "stalled", {}, {}, system_metrics=False)
    server.signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        for epoch in range(50):
            run.log_epoch(epoch, {"train/loss": float(epoch), "val/loss": float(epoch)})
        assert time.monotonic() - start < 1.5  # one request would take 2 s
        time.sleep(3)  # one attempt runs into its timeout
        assert run.undelivered == 100
    finally:
        server.signal(signal.SIGCONT)
    run.end("finished")
    client = MlflowClient(tracking_uri=server.uri)
    for key in ("train/loss", "val/loss"):
        history = client.get_metric_history(run.run_id, key)
        assert [m.step for m in sorted(history, key=lambda m: m.step)] == list(range(50))


def test_a_server_that_dies_is_reported_at_the_end_with_the_number_of_points(
    fresh_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("histo_mlflow.tracking.run.END_WHOLE_SECONDS", 6.0)
    with one_server(fresh_database, tmp_path) as server:
        run = start_run(connect(server.uri), "demo", "orphaned", {}, {}, system_metrics=False)
        run.log_epoch(0, {"train/loss": 1.0})
        assert run.flush() == 0
    start = time.monotonic()
    for epoch in range(1, 11):
        run.log_epoch(epoch, {"train/loss": 1.0, "val/loss": 1.0})
    assert time.monotonic() - start < 1.5
    with pytest.raises(TrackingError) as caught:
        run.end("finished")
    assert time.monotonic() - start < 30  # twice 6 s are its own; MLflow's would be minutes
    message = str(caught.value)
    assert "20 metric points were not delivered (the connection was refused" in message
    assert "so it is not closed there" in message
