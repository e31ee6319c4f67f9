"""The runs that dead workers left open, which nobody else closes."""

from types import SimpleNamespace

import pytest

from histo_mlflow.errors import TrackingError
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import lost
from histo_mlflow.tuning.lost import (
    close_all_lost,
    close_all_waiting,
    close_lost,
    close_now_or_later,
)
from histo_mlflow.tuning.shared import attributes

CAUSE = "its worker died once"


@pytest.fixture
def site(store_uri, one_bench):
    return SimpleNamespace(
        storage=one_bench.opened.storage,
        store=connect(store_uri),
        parent=SimpleNamespace(run_id="p" * 32),
        definition=SimpleNamespace(folds=2),
    )


@pytest.fixture
def study(one_bench):
    one_bench.study.set_user_attr(attributes.KEY, "k")
    one_bench.study.set_user_attr(attributes.EXPERIMENT, "e")
    return one_bench.study


def left(site, key):
    """A run as a worker leaves it that was killed right after it had made it."""
    return start_run(site.store, "e", key, {}, {}, follow_project=False, key=key).run_id


def test_the_run_is_found_though_its_worker_could_not_note_it_and_its_folds_are_closed(site, study):
    finished = start_run(site.store, "e", "f", {}, {}, follow_project=False, key="k-3-fold0")
    finished.end("finished")
    own, fold, other = left(site, "k-3"), left(site, "k-3-fold1"), left(site, "k-4")
    for _ in range(2):
        close_lost(site, study, 3, CAUSE)
    found = {one: site.store.client.get_run(one) for one in (own, fold, other, finished.run_id)}

    assert {one: run.info.status for one, run in found.items()} == {
        own: "FAILED",
        fold: "FAILED",
        other: "RUNNING",
        finished.run_id: "FINISHED",
    }
    tags = found[own].data.tags
    assert (tags["histo.ending"], tags["histo.cause"]) == ("failed", CAUSE)
    assert tags[attributes.STATE_TAG] == "failed"
    assert (tags["mlflow.parentRunId"], tags["histo.study.trial"]) == ("p" * 32, "3")
    assert "mlflow.parentRunId" not in found[fold].data.tags  # its worker gives it the trial's


def test_a_trial_without_a_run_has_none_made(site, study):
    close_lost(site, study, 3, CAUSE)

    experiments = [one.experiment_id for one in site.store.client.search_experiments()]
    assert site.store.client.search_runs(experiments) == []


def test_the_store_may_be_away_when_a_trial_is_lost_and_the_run_is_closed_at_the_end(
    site, study, one_bench, monkeypatch, capsys
):
    site.talk = Talk()
    boss, worker = one_bench.queue("boss"), one_bench.queue("w")
    boss.fill(1, [])
    worker.claim()
    run = start_run(site.store, "e", "t", {}, {}, follow_project=False, key="k-0")
    (reaped,) = boss.reap(dead=["w"], retries=0)

    def away(*_):
        raise TrackingError("the store is away")

    with monkeypatch.context() as outage:
        outage.setattr(lost, "run_of_key", away)
        close_now_or_later(site, study, reaped.number, reaped.cause)
    still_open = site.store.client.get_run(run.run_id).info.status
    for _ in range(2):
        close_all_lost(site, study, boss.trials())
    found = site.store.client.get_run(run.run_id)

    assert "the store is away; the run of trial 0 is closed at the end" in capsys.readouterr().err
    assert still_open == "RUNNING"
    assert found.info.status == "FAILED"
    assert "its worker died once" in found.data.tags["histo.cause"]


@pytest.fixture
def given_back(one_bench):
    """The queue of a study whose first trial waits, since its worker was killed."""
    boss = one_bench.queue("boss")
    boss.fill(2, [])
    one_bench.queue("w").claim()
    boss.reap(dead=["w"], retries=2)
    return boss


def test_the_runs_of_a_trial_that_waits_are_closed_and_can_be_gone_on_with(site, study, given_back):
    finished = start_run(site.store, "e", "f", {}, {}, follow_project=False, key="k-0-fold0")
    finished.end("finished")
    runs = [left(site, "k-0"), left(site, "k-0-fold1"), left(site, "k-1"), finished.run_id]
    for _ in range(2):
        close_all_waiting(site, study, given_back.trials())
    own, fold, untaken, before = (site.store.client.get_run(run) for run in runs)
    again = left(site, "k-0")
    reopened = site.store.client.get_run(again)

    assert [run.info.status for run in (own, fold)] == ["KILLED", "KILLED"]
    assert [run.info.status for run in (untaken, before)] == ["RUNNING", "FINISHED"]
    tags = own.data.tags
    assert (tags["histo.ending"], tags["histo.cause"]) == ("interrupted", "its worker died")
    assert (tags["mlflow.parentRunId"], tags["histo.study.trial"]) == ("p" * 32, "0")
    assert attributes.STATE_TAG not in tags  # the trial has not ended
    assert (again, reopened.info.status) == (runs[0], "RUNNING")
    assert "histo.ending" not in reopened.data.tags


def test_the_run_of_a_trial_that_another_command_has_just_taken_is_left_alone(
    site, study, given_back, one_bench
):
    run, seen = left(site, "k-0"), given_back.trials()
    one_bench.queue("other").claim()
    close_all_waiting(site, study, seen)

    assert site.store.client.get_run(run).info.status == "RUNNING"
