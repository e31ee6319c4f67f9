"""Runs that are continued: by their id, by their key, from their journal."""

import math
import os
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from histo_mlflow.errors import DiskError, TrackingError
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


def resume(store: Store, run_id: str | None = None, **options: object) -> TrackedRun:
    options = {"system_metrics": False, "params": {}, "tags": {}, "run_name": None, **options}
    return start_run(store, "demo", run_id=run_id, **options)


def history(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in read(store).get_metric_history(run_id, key)]


def points(n: int, key: str = "train/loss") -> list[Point]:
    return [Point(key, 1.0 / (step + 1), 1_000 + step, step) for step in range(n)]


def test_a_resumed_run_has_lost_the_tags_of_its_earlier_ending(store: Store) -> None:
    run = begin(store, lr=0.1)
    run.end("interrupted", "a signal")
    close_run(store, run.run_id, "interrupted", "a signal", undelivered=3)
    again = resume(store, run.run_id)
    seen = read(store).get_run(run.run_id)
    assert seen.info.status == "RUNNING"
    assert not {"histo.ending", "histo.cause", "histo.undelivered"} & set(seen.data.tags)
    assert seen.data.tags["kind"] == "test"
    again.end("finished")
    assert read(store).get_run(run.run_id).data.tags["histo.ending"] == "finished"


def test_the_ending_of_one_command_leaves_nothing_of_anothers_that_was_interrupted(
    store: Store,
) -> None:
    run = begin(store)
    other = resume(store, run.run_id)
    other.leave(KeyboardInterrupt("ended by SIGINT"))
    close_run(store, run.run_id, "interrupted", "a signal", undelivered=3)
    run.end("finished")
    seen = read(store).get_run(run.run_id)
    assert (seen.info.status, seen.data.tags["histo.ending"]) == ("FINISHED", "finished")
    assert not {"histo.cause", "histo.undelivered"} & set(seen.data.tags)


def test_who_has_not_counted_the_points_leaves_the_count_that_is_there(store: Store) -> None:
    run = begin(store)
    run.end("interrupted", "a signal")
    close_run(store, run.run_id, "interrupted", "a signal", undelivered=3)
    close_run(store, run.run_id, "interrupted")
    seen = read(store).get_run(run.run_id).data.tags
    assert seen["histo.undelivered"] == "3"
    assert "histo.cause" not in seen


def test_a_run_with_other_params_is_refused_and_left_as_it_was(store: Store) -> None:
    run = begin(store, lr=0.001, epochs=3, seed=1)
    run.end("finished")
    with pytest.raises(TrackingError) as caught:
        resume(store, run.run_id, params={"lr": 0.002, "epochs": 3, "seed": 2, "new": 1})
    assert "lr: the run has 0.001, this recipe says 0.002; seed: the run has 1" in str(caught.value)
    assert "epochs" not in str(caught.value)
    seen = read(store).get_run(run.run_id)
    assert (seen.info.status, seen.data.tags["histo.ending"]) == ("FINISHED", "finished")
    assert "new" not in seen.data.params


def test_params_that_a_continued_run_has_not_are_added(store: Store) -> None:
    run = begin(store, lr="1e-3", on="true", nothing="null", long="x" * 9_000)
    params = {"lr": 0.001, "on": True, "nothing": None, "long": "x" * 9_000, "new": 1}
    resume(store, run.run_id, params=params).end("finished")
    seen = read(store).get_run(run.run_id).data.params
    assert (seen["lr"], seen["on"], seen["new"]) == ("1e-3", "true", "1")


def test_a_key_finds_the_run_that_a_killed_process_made(store: Store) -> None:
    first = resume(store, key="abc", params={"lr": 1})
    assert read(store).get_run(first.run_id).data.tags["histo.key"] == "abc"
    second = resume(store, key="abc", params={"lr": 1})
    other = resume(store, key="other")
    assert second.run_id == first.run_id != other.run_id
    with pytest.raises(TrackingError, match="other params"):
        resume(store, key="abc", params={"lr": 2})


def test_the_run_of_mlflow_run_gets_the_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = read(store).create_run(read(store).create_experiment("demo")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    assert resume(store, key="abc").run_id == made
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert resume(store, key="abc").run_id == made


def test_a_point_is_in_the_journal_before_the_store_has_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a busy disk is no fault of the store
    path = tmp_path / "metrics.jsonl"
    run = resume(store, journal_path=path)
    run._outbox._missing = run._outbox._send = lambda _: time.sleep(60)  # type: ignore[assignment]
    run.log_epoch(0, {"train/loss": 0.5, "val/auc": math.nan})
    assert [(p.key, p.value, p.step) for p in Journal(path).points()] == [("train/loss", 0.5, 0)]
    assert history(store, run.run_id, "train/loss") == []
    assert 0 < run.longest_stall_s < 1


def test_what_a_kill_left_in_the_journal_is_delivered_when_the_run_is_resumed(
    store: Store, tmp_path: Path
) -> None:
    """Killed after the third of five journal entries had arrived, in the middle of the sixth."""
    path = tmp_path / "metrics.jsonl"
    run = resume(store, journal_path=path, key="abc")
    for step in range(3):
        run.log_epoch(step, {"train/loss": 1.0 / (step + 1)})
    assert run.flush() == 0
    journal = Journal(path)
    journal.append(points(5))
    with path.open("ab") as stream:
        stream.write(b'{"crc32":12')
    with resume(store, journal_path=path, key="abc") as again:
        for step in range(3, 7):  # from an older checkpoint: 3 and 4 are trained again
            again.log_epoch(step, {"train/loss": 1.0 / (step + 1)})
    assert again.run_id == run.run_id
    expected = [(step, 1.0 / (step + 1)) for step in range(7)]
    assert sorted(history(store, run.run_id, "train/loss")) == expected


def test_a_damaged_journal_doubles_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with resume(store, journal_path=path, key="abc") as run:
        for step in range(5):
            run.log_epoch(step, {"train/loss": float(step)})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"???\n", *lines[3:]]))
    with resume(store, journal_path=path, key="abc") as again:
        for step in range(2, 6):
            again.log_epoch(step, {"train/loss": float(step)})
    assert sorted(history(store, run.run_id, "train/loss")) == [(s, float(s)) for s in range(6)]


def test_system_metrics_of_a_resumed_run_go_on_counting(store: Store, tmp_path: Path) -> None:
    """Counted from 0 again, none would be new for the first 50 samples, which is a minute."""
    path, key = tmp_path / "metrics.jsonl", "system/disk_usage_percentage"
    before = 50
    Journal(path).append(points(before, key))
    for journal_path in (path, None):  # None: gone, so the store is asked
        began = time.monotonic()
        run = resume(store, key="abc", system_metrics=True, journal_path=journal_path)
        while len(history(store, run.run_id, key)) <= before:
            assert time.monotonic() < began + 60
            time.sleep(0.1)
        run.end("finished")
        steps = sorted(step for step, _ in history(store, run.run_id, key))
        assert steps == list(range(len(steps)))
        new, before = len(steps) - before, len(steps)
        assert 1 <= new <= 1 + time.monotonic() - began  # one a second


def test_a_journal_that_cannot_be_opened_makes_no_run(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DiskError):
        resume(store, journal_path=tmp_path / "none" / "metrics.jsonl")
    assert read(store).get_experiment_by_name("demo") is None
