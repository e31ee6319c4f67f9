"""What is left at the end of a run, and its delivery afterwards."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.delivery import Delivery, deliver
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.tracking.lifecycle import close_run
from histo_mlflow.tracking.outbox import Point
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import Store


def read(store: Store) -> MlflowClient:
    return MlflowClient(tracking_uri=store.tracking_uri)


def begin(store: Store, **params: object) -> TrackedRun:
    return start_run(store, "demo", "first", params, {"kind": "test"}, system_metrics=False)


def history(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in read(store).get_metric_history(run_id, key)]


def points(n: int, key: str = "train/loss") -> list[Point]:
    return [Point(key, 1.0 / (step + 1), 1_000 + step, step) for step in range(n)]


def test_left_over_points_name_the_command_that_delivers_them(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    journal = folder / "metrics.jsonl"
    run = start_run(store, "demo", None, {}, {}, system_metrics=False, journal_path=journal)
    read(store).delete_run(run.run_id)
    run.log_epoch(0, {"train/loss": 1.0, "val/loss": 2.0})
    with pytest.raises(TrackingError) as caught:
        run.end("finished")
    assert "2 metric points were not delivered" in str(caught.value)
    assert str(caught.value).endswith(f"nothing is lost: histo-mlflow runs sync '{folder}'")
    read(store).restore_run(run.run_id)
    found = deliver(store, run.run_id, journal, timeout_s=30)
    assert found == Delivery(sent=2, already_there=0, refused=0, waiting=0)
    assert history(store, run.run_id, "val/loss") == [(0, 2.0)]


def test_a_journal_is_delivered_once_however_often_it_is_asked_for(
    store: Store, tmp_path: Path
) -> None:
    run = begin(store)
    run.end("finished")
    close_run(store, run.run_id, "finished", undelivered=2_400)
    path = tmp_path / "metrics.jsonl"
    Journal(path).append([*points(1_200), *points(1_200, "val/loss")])
    assert deliver(store, run.run_id, path, timeout_s=0.0).waiting == 2_400
    assert deliver(store, run.run_id, path, timeout_s=60) == Delivery(2_400, 0, 0, 0)
    assert deliver(store, run.run_id, path, timeout_s=60) == Delivery(0, 2_400, 0, 0)
    assert len(history(store, run.run_id, "val/loss")) == 1_200
    seen = read(store).get_run(run.run_id)
    assert "histo.undelivered" not in seen.data.tags
    assert seen.info.status == "FINISHED"


def test_a_point_that_mlflow_never_takes_is_counted_and_the_others_arrive(
    store: Store, tmp_path: Path
) -> None:
    run = begin(store)
    path = tmp_path / "metrics.jsonl"
    Journal(path).append([*points(300), Point("no such: name?", 1.0, 1, 1), *points(300, "b")])
    found = deliver(store, run.run_id, path, timeout_s=60)
    assert (found.sent, found.refused, found.waiting) == (600, 1, 0)
    assert "no such: name?" in str(found.reason)
    assert len(history(store, run.run_id, "b")) == 300


def test_a_delivery_to_nowhere_is_a_plain_error(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(TrackingError, match="no journal of metric points at"):
        deliver(store, "0" * 32, path, timeout_s=5)
    Journal(path).append(points(1))
    with pytest.raises(TrackingError, match=r"finding run 0000.*not found"):
        deliver(store, "0" * 32, path, timeout_s=5)
    run = begin(store)
    read(store).delete_run(run.run_id)
    with pytest.raises(TrackingError, match="was deleted"):
        deliver(store, run.run_id, path, timeout_s=5)
