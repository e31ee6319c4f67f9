"""The runs of a trial that lost too many lives, which nobody else closes."""

from types import SimpleNamespace

import pytest

from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.shared.queue import Reaped
from histo_mlflow.tuning.work_on import close_lost

LOST = Reaped(
    number=3,
    trial_id=7,
    run_id=None,
    worker=None,
    lives_lost=1,
    ending="failed",
    cause="its worker died once",
)


@pytest.fixture
def site(store_uri):
    return SimpleNamespace(
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
        close_lost(site, study, LOST)
    found = {one: site.store.client.get_run(one) for one in (own, fold, other, finished.run_id)}

    assert {one: run.info.status for one, run in found.items()} == {
        own: "FAILED",
        fold: "FAILED",
        other: "RUNNING",
        finished.run_id: "FINISHED",
    }
    tags = found[own].data.tags
    assert (tags["histo.ending"], tags["histo.cause"]) == ("failed", LOST.cause)
    assert tags[attributes.STATE_TAG] == "failed"
    assert (tags["mlflow.parentRunId"], tags["histo.study.trial"]) == ("p" * 32, "3")
    assert "mlflow.parentRunId" not in found[fold].data.tags  # its worker gives it the trial's


def test_a_trial_without_a_run_has_none_made(site, study):
    close_lost(site, study, LOST)

    experiments = [one.experiment_id for one in site.store.client.search_experiments()]
    assert site.store.client.search_runs(experiments) == []
