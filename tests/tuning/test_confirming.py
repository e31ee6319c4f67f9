"""What a confirmation is judged by, what it tells of its winner, and the winner's recipe."""

from types import SimpleNamespace

import pandas as pd
import pytest

import finished_runs
from histo_mlflow.errors import TrackingError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.run_folder import VAL_PREDICTIONS, RunFolder
from histo_mlflow.recipe import load
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import confirming
from histo_mlflow.tuning.confirm.confirm_plan import Candidate
from histo_mlflow.tuning.confirm.val_table import val_table
from histo_mlflow.tuning.confirming import _winner_recipe
from histo_mlflow.tuning.shared import attributes
from made_studies import ended_trial

RUN_ID = "c" * 32


def judged(candidate):
    winner = None if candidate is None else SimpleNamespace(candidate=candidate)
    return SimpleNamespace(winner=winner, reason="the best confirmed mean")


@pytest.mark.parametrize(("dataset", "folder"), [("ham10000", "data/ham10000"), ("demo", "auto")])
def test_the_winner_is_trained_on_the_images_of_its_base_recipe(dataset, folder):
    winner = Candidate(7, {"lr": 0.003}, 0.9, "r" * 32)

    recipe = _winner_recipe(judged(winner), load(dataset), "my study-winner")

    assert (recipe.name, recipe.data.data_dir) == ("my_study-winner", folder)
    assert recipe.optimisation.lr == 0.003
    assert recipe.summary == "winner of a confirmed search: trial 7; the best confirmed mean"


def test_without_a_winner_there_is_no_recipe():
    assert _winner_recipe(judged(None), load("demo"), "x-winner") is None


@pytest.fixture
def logged(store_uri):
    """A run of another machine: its files are in the store alone."""
    store = connect(store_uri)

    def log(*files):
        options = {"follow_project": False, "system_metrics": False}
        with start_run(store, "e", "confirm", {}, {}, **options) as run:
            for file in files:
                run.log_artifacts(file)
        return store, run.run_id

    return log


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "elsewhere" / "results"
    folder.mkdir(parents=True)
    predictions.save(finished_runs.cases(), folder / VAL_PREDICTIONS)
    return folder


def test_predictions_of_another_machine_are_fetched_from_the_store(logged, results, tmp_path):
    store, run_id = logged(results)
    trial = ended_trial(0, {}, [0.9])
    trial.set_user_attr(attributes.RUN_ID, run_id)
    site = SimpleNamespace(store=store, runs_dir=tmp_path / "runs")
    slots = [SimpleNamespace(candidate=0, replicate=0)]
    (found,) = confirming._outcomes(site, slots, [trial])

    pd.testing.assert_frame_equal(found.predictions, finished_runs.cases())


def test_predictions_that_are_here_need_no_store(results, tmp_path):
    folder = RunFolder(tmp_path / "runs" / RUN_ID)
    folder.path.mkdir(parents=True)
    results.rename(folder.results)

    found = val_table(None, tmp_path / "runs", RUN_ID)

    pd.testing.assert_frame_equal(found, finished_runs.cases())


def test_predictions_that_are_nowhere_are_missing(logged, tmp_path):
    store, run_id = logged()

    assert val_table(store, tmp_path, run_id) is None
    assert val_table(store, tmp_path, RUN_ID) is None


def test_a_store_that_fails_is_no_lack_of_predictions(logged, results, monkeypatch, tmp_path):
    store, run_id = logged(results)

    def away(*_):
        raise ConnectionError("Connection refused")

    monkeypatch.setattr(store.client, "list_artifacts", away)
    with pytest.raises(TrackingError, match="the connection was refused"):
        val_table(store, tmp_path, run_id)
