"""A worker process: what it says as it ends, and what it does until then."""

import os
import signal
from types import SimpleNamespace

import pytest

import fake_workers
import queue_workers
from histo_mlflow.errors import Interrupted
from histo_mlflow.tuning import objective, worker, workplace
from histo_mlflow.tuning.order import Order

ORDER = Order(
    worker="w",
    storage="",
    study="s",
    tracking_uri="",
    runs_dir="",
    definition="{}",
    most_epochs=1,
    plan={},
    started_by=os.getppid(),
)


@pytest.mark.parametrize(
    ("outcome", "code", "last"),
    [
        ("done", 0, "run None"),
        ("interrupted", 0, "run None"),
        ("failed", 1, "histo-mlflow: the store is away; start it"),
        ("bug", 1, "ZeroDivisionError: a bug"),
    ],
)
def test_a_worker_ends_with_a_code_and_a_sentence_and_has_no_run_of_mlflow_run(
    outcome, code, last, tmp_path
):
    log = tmp_path / "log"
    process = queue_workers.CONTEXT.Process(
        target=fake_workers.main_under_mlflow_run, args=(outcome, ORDER.to_json(), str(log))
    )
    process.start()
    process.join(60)

    lines = log.read_text().splitlines()
    assert process.exitcode == code
    assert lines[-1] == last
    assert {"a line on stdout", "run None"} <= set(lines)


@pytest.fixture
def place(one_bench, monkeypatch, tmp_path):
    """A workplace with a real queue; what is done with a trial is up to the test."""
    queue = one_bench.queue("w")
    made = SimpleNamespace(queue=queue, claim=queue.claim, time_is_up=lambda: False)
    made.sign = tmp_path / "worker.alive"
    monkeypatch.setattr(workplace, "open_workplace", lambda order, ending: made)
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.0)
    return made


def test_it_takes_trials_until_there_are_none(place, monkeypatch):
    place.queue.fill(3, [])
    numbers = []

    def end(place, trial):
        assert place.sign.exists()
        numbers.append(trial.number)
        place.queue.finish(trial._trial_id, "complete", 1.0)

    monkeypatch.setattr(objective, "run_trial", end)
    worker.work(ORDER, place.sign)

    assert numbers == [0, 1, 2]
    assert not place.sign.exists()
    assert place.queue.over()


def test_it_waits_for_trials_that_others_are_at(place, one_bench, monkeypatch):
    other = one_bench.queue("other")
    other.fill(1, [])
    other.claim()
    looks, claim = [], place.claim

    def looked():
        looks.append(1)
        if len(looks) == 3:
            other.reap(dead=["other"], retries=1)
            one_bench.queue("boss").reap(dead=["other"], retries=1)
        return claim()

    place.claim = looked
    monkeypatch.setattr(
        objective,
        "run_trial",
        lambda place, trial: place.queue.finish(trial._trial_id, "complete", 1.0),
    )
    worker.work(ORDER, place.sign)

    assert len(looks) == 3
    assert place.queue.counts().complete == 1


def test_it_begins_no_trial_when_time_is_up(place):
    place.queue.fill(1, [])
    place.time_is_up = lambda: True
    worker.work(ORDER, place.sign)

    assert place.queue.counts().waiting == 1


def test_a_signal_between_taking_a_trial_and_working_on_it_gives_it_back(place, monkeypatch):
    place.queue.fill(1, [])
    claim = place.claim

    def claim_as_a_signal_comes():
        trial = claim()
        os.kill(os.getpid(), signal.SIGTERM)
        return trial

    place.claim = claim_as_a_signal_comes
    monkeypatch.setattr(objective, "run_trial", None)
    with pytest.raises(Interrupted):
        worker.work(ORDER, place.sign)

    counts = place.queue.counts()
    assert (counts.running, counts.waiting) == (0, 1)
    (trial,) = place.queue.trials()
    assert "histo.lives_lost" not in trial.user_attrs
