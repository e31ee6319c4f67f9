"""What a confirmation is judged by, what it tells of its winner, and the winner's recipe."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution

import finished_runs
import tuned_studies
from histo_mlflow.errors import TrackingError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.development import develop
from histo_mlflow.jobs.prepare import prepare
from histo_mlflow.jobs.run_folder import VAL_PREDICTIONS, RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import TrainResult
from histo_mlflow.recipe import load
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import confirming
from histo_mlflow.tuning.confirm.confirm_plan import Candidate
from histo_mlflow.tuning.confirm.val_table import val_table
from histo_mlflow.tuning.confirming import _winner_recipe, confirm_best
from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.study_file import load_study
from made_studies import FIXED, ended_trial

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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return prepare(study_of(folder).base(), talk=Talk(quiet=True))


def study_of(folder, folds=None):
    path = tuned_studies.write_study(folder, trials=4, epochs=2)
    path.write_text(f"{path.read_text().partition('pruner:')[0]}trials: 4\n")
    return Definition.of(load_study(str(path), {} if folds is None else {"folds": folds}))


def labelled(prepared, source):
    """The same images with labels from elsewhere."""
    return replace(prepared, manifest=replace(prepared.manifest, label_source=source))


@pytest.fixture
def confirmed(monkeypatch, tmp_path):
    """Confirms trial 0; the trainings and the report are left out."""
    monkeypatch.setattr(confirming, "_report", lambda *_: None)

    def confirm(prepared, *, definition=None, values=(0.9, 0.91), reference=(0.7, 0.7)):
        ended = []
        for pair in zip(values, reference, strict=True):
            for value in pair:
                one = ended_trial(0, {}, [value or 0.0], state="complete" if value else "diverged")
                one.number = len(ended)
                ended.append(one)
        monkeypatch.setattr(confirming, "val_table", lambda *_: None)
        monkeypatch.setattr(confirming, "_trained", lambda *_: ended)
        winner = TrainResult(RUN_ID, "finished", 2, 3, 6.0, {"auc": 0.75}, "m-1", tmp_path)
        monkeypatch.setattr(confirming, "train_winner", lambda *_: winner)
        site = SimpleNamespace(
            definition=definition or study_of(tmp_path),
            folder=tmp_path / "parent",
            runs_dir=tmp_path,
            store=None,
            parent=SimpleNamespace(set_tags=lambda _: None),
        )
        axes = {"lr": FIXED["lr"], "policy": CategoricalDistribution(["none", "flips"])}
        params = {"lr": 0.005, "policy": "none"}
        found = [ended_trial(0, params, [0.95], distributions=axes)]
        ready = SimpleNamespace(prepared=prepared)
        return confirm_best(site, "small", "k", found, 1, 2, ready=ready)

    return confirm


def sizes_told(found):
    return [note for note in found.judgement.notes if "a trial of the search on" in note]


def test_a_trial_on_folds_was_trained_on_what_its_folds_leave(prepared, confirmed, tmp_path):
    own = develop(prepared)
    images = len(own.train) + len(own.val)
    (told,) = sizes_told(confirmed(prepared, definition=study_of(tmp_path, folds=4)))

    assert len(own.train) != round(images * 3 / 4)
    assert f"and a trial of the search on {round(images * 3 / 4)}:" in told


def test_a_search_on_as_few_images_as_the_replicates_needs_no_note(prepared, confirmed, tmp_path):
    assert sizes_told(confirmed(prepared))
    assert not sizes_told(confirmed(prepared, definition=study_of(tmp_path, folds=2)))


@pytest.mark.parametrize("source", ["synthetic", "placeholder"])
def test_a_winner_of_labels_that_are_not_real_is_promoted_in_tutorials_alone(
    source, prepared, confirmed
):
    found = confirmed(labelled(prepared, source))
    last, command = found.text().splitlines()[-1].split("; as in a tutorial: ")

    assert last == f"promote refuses it: the labels are {source}"
    assert command.startswith("histo-mlflow promote ")
    assert command.endswith(" --allow-synthetic")
    assert found.to_dict()["unfit"] == [f"the labels are {source}"]


def test_a_winner_of_a_split_with_look_alikes_is_not_to_be_promoted(
    prepared, confirmed, monkeypatch
):
    own = replace(develop(prepared), label_source="metadata", crossing=3)
    monkeypatch.setattr(confirming, "develop", lambda _: own)

    assert confirmed(prepared).text().splitlines()[-1] == (
        "promote refuses it: 3 images look like others on the other side of the split"
    )


@pytest.mark.parametrize(
    ("values", "reference", "said"),
    [
        ((0.90, 0.91), (0.70, 0.70), "promote it: histo-mlflow"),
        ((0.90, 0.60), (0.70, 0.70), "promote it (its gain over the recipe is not clear): histo"),
        ((0.90, 0.91), (None, None), "promote it (its gain over the recipe is not clear): h"),
    ],
    ids=["clear", "not clear", "no value"],
)
def test_how_sure_the_gain_is_stands_where_the_winner_is_to_be_promoted(
    values, reference, said, prepared, confirmed
):
    found = confirmed(labelled(prepared, "metadata"), values=values, reference=reference)
    last = found.text().splitlines()[-1]

    assert last.startswith(said)
    assert last.endswith(f"promote {RUN_ID} --name histo-demo")


def test_a_winner_that_is_the_recipe_itself_is_told_so(prepared, confirmed, monkeypatch):
    itself = Candidate(0, {}, 0.95, None, default=True)
    other = Candidate(1, {"lr": 0.005}, 0.94, None)
    monkeypatch.setattr(confirming.plans, "candidates", lambda *_, **__: (itself, other))
    found = confirmed(labelled(prepared, "metadata"))

    assert (
        found.text()
        .splitlines()[-1]
        .startswith(
            "promote it (the recipe itself: the search found nothing better): histo-mlflow promote"
        )
    )


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
