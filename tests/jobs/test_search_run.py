"""A study's training: ordinary epochs in a child run, stopped, killed and gone on with."""

import ast
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

import killed_trials
from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.errors import (
    Interrupted,
    NotANumberError,
    OutOfMemoryError,
    ResumeError,
    TakenOverError,
    TrackingError,
    TrainingError,
)
from histo_mlflow.jobs import epochs, search_run
from histo_mlflow.jobs import train as training
from histo_mlflow.jobs.deliver import sync
from histo_mlflow.jobs.development import Developments, Division
from histo_mlflow.jobs.metrics import epoch_measure
from histo_mlflow.jobs.opening import Child
from histo_mlflow.jobs.prepare import prepare
from histo_mlflow.jobs.ready import get_ready
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import train
from histo_mlflow.models.losses import loss_function
from histo_mlflow.recipe import load
from histo_mlflow.training import loop
from histo_mlflow.training.loop import fit
from killed_trials import PLACES, PLAN, RECIPE, trial

KILLS = ("noting:1", "step:7", "journal:6", "results:1", "closing:1")
"""Four steps an epoch, each of which is saved; the first save is before the first step."""
OF_THE_CLOCK = ("seconds", "train_seconds", "images_per_second", "data_wait_share")


@pytest.fixture(scope="module")
def development(session_cache):
    return Developments(talk=Talk(quiet=True)).of(load("demo", RECIPE))


@pytest.fixture
def root(store_uri, tmp_path):
    """A folder with a store of its own, `mlflow.db`."""
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(development, fresh_database, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(fresh_database, root / "mlflow.db")
    return trial(development, root, "undisturbed")


@pytest.fixture(scope="module")
def killed(session_cache, fresh_database, tmp_path_factory):
    """A folder for each of `KILLS`, in which a trial was killed there."""
    root = tmp_path_factory.mktemp("killed")
    for moment in KILLS:
        place = root / moment.partition(":")[0]
        place.mkdir()
        shutil.copy(fresh_database, place / "mlflow.db")
    command = [sys.executable, str(Path(killed_trials.__file__)), str(root), *KILLS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == [-signal.SIGKILL] * len(KILLS)
    return root


def taken_over(killed, root):
    """Copy what a killed trial left, so that several tests can go on from there."""
    shutil.copy(killed / "mlflow.db", root / "mlflow.db")
    if (killed / "runs").exists():
        shutil.copytree(killed / "runs", root / "runs")


def runs(root):
    """All runs of the study's experiment."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    return client.search_runs([client.get_experiment_by_name("study").experiment_id])


def only_run(root):
    (found,) = runs(root)
    return found


def without_clock(history):
    return [{k: v for k, v in entry.items() if k not in OF_THE_CLOCK} for entry in history]


def points(root, key):
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    history = client.get_metric_history(only_run(root).info.run_id, key)
    return [(metric.step, metric.value) for metric in history]


def test_its_epochs_are_those_of_an_ordinary_training(undisturbed):
    ready = get_ready(load("demo", RECIPE), decided=PLAN, talk=Talk(quiet=True))
    output, classes = ready.recipe.model.output, ready.prepared.manifest.classes
    records = fit(
        ready.state,
        ready.prepared.dataset("train"),
        ready.prepared.dataset("val"),
        ready.settings,
        loss_function=loss_function("softmax"),
        measure=lambda targets, logits: epoch_measure(targets, logits, output, classes),
        plan=ready.plan,
    )
    assert [record.improved for record in records].index(True) == 0

    assert without_clock(undisturbed.history) == without_clock(ready.state.history)
    assert undisturbed.best_epoch == ready.state.stopping.best_epoch


def test_the_run_is_a_child_with_params_points_and_two_small_artifacts(development, root):
    begun = []
    found = trial(development, root, "key", parent="a" * 32, begun=begun.append)

    run, client = only_run(root), MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    assert begun == [run.info.run_id] == [found.run_id]
    assert run.info.status == "FINISHED"
    assert run.data.params == {k: str(v) for k, v in load("demo", RECIPE).flatten().items()}
    tags = {
        "mlflow.parentRunId": "a" * 32,
        "histo.key": "key",
        "histo.trial": "7",
        "histo.ending": "finished",
        "histo.trial.state": "complete",
        "histo.data.digest": development.data_digest,
        "histo.weights.source": "none",
    }
    assert {name: run.data.tags.get(name) for name in tags} == tags
    assert "histo.promotable" not in run.data.tags
    assert points(root, "val/auc") == [(e["epoch"], e["val/auc"]) for e in found.history]
    assert points(root, "value") == [(found.best_epoch, found.value)]
    assert [key for key in run.data.metrics if key.startswith(("test", "system"))] == []
    artifacts = [entry.path for entry in client.list_artifacts(run.info.run_id)]
    assert artifacts == ["history.json", "recipe.yaml"]
    assert client.search_logged_models([run.info.experiment_id]) == []
    assert found.value == max(entry["val/auc"] for entry in found.history)
    assert found.seconds == sum(entry["seconds"] for entry in found.history)


def test_a_trial_on_a_fold_keeps_what_it_said_of_its_images_and_reads_no_others(root, monkeypatch):
    read, gather = set(), PackedDataset.gather

    def noted(self, index, positions, **options):
        read.update(self.rows[index].tolist())
        return gather(self, index, positions, **options)

    monkeypatch.setattr(PackedDataset, "gather", noted)
    recipe = load("demo", RECIPE)
    fold = Developments(talk=Talk(quiet=True)).of(recipe, Division(3, 1, seed=4))
    found = trial(fold, root, "key", predictions=True, go_on=lambda epoch, value: epoch < 3)

    # A "no" after the last epoch prunes nothing.
    assert (found.ending, found.epochs) == ("finished", 3)
    assert read == {*fold.train.rows.tolist(), *fold.val.rows.tolist()}
    prepared = prepare(recipe, talk=Talk(quiet=True))
    assert read.isdisjoint(prepared.splits.rows("test").tolist())
    table = pd.read_parquet(found.run_dir / "results" / "val_predictions.parquet")
    assert tuple(table["id"]) == fold.val_rows.ids
    assert set(table["split"]) == {"val"}
    positive = fold.classes[1]
    auc = roc_auc_score(table["label"] == positive, table[f"p_{positive}"])
    assert auc == pytest.approx(found.value, abs=1e-12)
    tags = only_run(root).data.tags
    assert tags["histo.division"] == "fold 1 of 3, seed 4"
    assert tags["histo.split.kind"] == "group"


def test_pruning_stops_the_training_for_good(development, root, undisturbed, monkeypatch):
    asked = []

    def go_on(epoch, value):
        asked.append((epoch, value))
        return epoch < 2

    state = {"histo.trial.state": "pruned"}
    found = trial(development, root, "key", go_on=go_on, tags_of=lambda result: state)

    assert asked == [(e["epoch"], e["val/auc"]) for e in undisturbed.history[:2]]
    assert (found.ending, found.epochs) == ("pruned", 2)
    assert without_clock(found.history) == without_clock(undisturbed.history[:2])
    run = only_run(root)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("KILLED", "pruned")
    assert run.data.tags["histo.trial.state"] == "pruned"
    assert [step for step, _ in points(root, "val/auc")] == [1, 2]
    monkeypatch.setattr(search_run, "found_or_begun", None)
    assert trial(development, root, "key") == found


def test_what_came_to_its_end_returns_at_once(undisturbed, development, root, monkeypatch):
    taken_over(undisturbed.run_dir.parents[1], root)
    monkeypatch.setattr(search_run, "found_or_begun", None)
    begun = []
    again = trial(development, root, "undisturbed", begun=begun.append)

    here = root / "runs" / undisturbed.run_id
    assert again == dataclasses.replace(undisturbed, run_dir=here)
    assert begun == [undisturbed.run_id]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", KILLS)
def test_a_trial_killed_at_any_moment_goes_on_in_its_own_run(
    moment, killed, undisturbed, root, monkeypatch
):
    name, asked, steps, step = moment.partition(":")[0], [], [], loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    taken_over(killed / name, root)
    developments = Developments(talk=Talk(quiet=True))
    found = trial(
        developments.of(load("demo", RECIPE)),
        root,
        name,
        go_on=lambda epoch, value: not asked.append((epoch, value)),
    )

    assert without_clock(found.history) == without_clock(undisturbed.history)
    assert (found.value, found.best_epoch) == (undisturbed.value, undisturbed.best_epoch)
    # Of 12 steps; nothing is trained again that was saved.
    assert len(steps) == {"noting": 12, "step": 6, "journal": 8}.get(name, 0)
    told = [] if name in ("results", "closing") else undisturbed.history
    assert asked == [(entry["epoch"], entry["val/auc"]) for entry in told]
    run = only_run(root)
    assert (run.info.status, run.info.run_id) == ("FINISHED", found.run_id)
    assert run.data.tags["histo.trial.state"] == "complete"
    assert points(root, "val/loss") == [
        (entry["epoch"], entry["val/loss"]) for entry in undisturbed.history
    ]


def test_a_trial_that_is_taken_up_ends_by_what_is_said_of_its_last_epoch_alone(
    development, root, undisturbed
):
    """By now others may be so far ahead that it would have ended earlier; it is trained already."""
    asked = []

    def interrupted(epoch, value):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return True

    with pytest.raises(Interrupted):
        trial(development, root, "key", go_on=interrupted)
    found = trial(
        development, root, "key", go_on=lambda epoch, value: bool(asked.append(epoch)) or epoch > 1
    )

    assert asked == [1, 2, 3]
    assert (found.ending, found.epochs) == (undisturbed.ending, 3)
    assert without_clock(found.history) == without_clock(undisturbed.history)


def test_an_interrupted_trial_is_saved_closed_and_gone_on_with(development, root, undisturbed):
    def interrupted(epoch, value):
        os.kill(os.getpid(), signal.SIGINT)
        return True

    with pytest.raises(Interrupted):
        trial(development, root, "key", go_on=interrupted)
    run = only_run(root)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("KILLED", "interrupted")
    assert "histo.trial.state" not in run.data.tags
    found = trial(development, root, "key")

    assert without_clock(found.history) == without_clock(undisturbed.history)
    assert only_run(root).info.status == "FINISHED"


def interrupted_after(epochs):
    """What asks of an epoch, and ends the process after so many."""

    def go_on(epoch, value):
        if epoch == epochs:
            os.kill(os.getpid(), signal.SIGINT)
        return True

    return go_on


def test_a_trial_goes_on_though_a_field_that_may_differ_is_another_by_now(
    development, root, undisturbed
):
    other = {"recipe": load("demo", {**RECIPE, "threads": "2"}), "may_differ": ("threads",)}
    with pytest.raises(Interrupted):
        trial(development, root, "key", go_on=interrupted_after(2))
    with pytest.raises(ResumeError, match="threads was 0, 2 is given"):
        trial(development, root, "key", recipe=other["recipe"])
    found = trial(development, root, "key", **other)
    again = trial(development, root, "key", **other)

    assert without_clock(found.history) == without_clock(undisturbed.history)
    assert again == found
    assert only_run(root).data.params["threads"] == "0"


def test_a_trial_without_its_folder_goes_on_in_a_run_whose_fields_may_differ(development, root):
    with pytest.raises(Interrupted):
        trial(development, root, "key", go_on=interrupted_after(1))
    shutil.rmtree(root / "runs")  # as on another machine
    recipe = load("demo", {**RECIPE, "threads": "2"})
    with pytest.raises(TrackingError, match="threads: the run has 0, this recipe says 2"):
        trial(development, root, "key", recipe=recipe)
    shutil.rmtree(root / "runs")
    trial(development, root, "key", recipe=recipe, may_differ=("threads",))

    run = only_run(root)
    assert (run.info.status, run.data.params["threads"]) == ("FINISHED", "0")


def test_a_trial_that_another_has_by_now_leaves_its_run_as_the_other_left_it(development, root):
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")

    def ended_by_another():
        client.set_terminated(only_run(root).info.run_id, "FINISHED")
        raise TakenOverError("another has it")

    with pytest.raises(TakenOverError):
        trial(development, root, "key", held=ended_by_another)

    run = only_run(root)
    assert run.info.status == "FINISHED"
    assert {"histo.ending", "histo.cause", "histo.trial.state"}.isdisjoint(run.data.tags)
    assert run.data.metrics == {}
    assert not (root / "runs" / run.info.run_id / "outcome.json").exists()


def test_a_trial_that_was_lost_before_its_new_run_is_open_does_not_close_it(development, root):
    def lost(run_id):
        raise TakenOverError("another has it")

    with pytest.raises(TakenOverError):
        trial(development, root, "key", begun=lost)

    run = only_run(root)
    assert (run.info.status, run.data.tags.get("histo.cause")) == ("RUNNING", None)


def fails(kind, monkeypatch):
    """Let a training fail in one of several ways."""
    step = loop.train_step

    def too_large(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def nan(model, loss_function, *arguments, **options):
        return step(model, lambda a, b: loss_function(a, b) * float("nan"), *arguments, **options)

    if kind == "model too large":
        monkeypatch.setattr(search_run, "get_trainable", too_large)
    elif kind == "undefined":
        monkeypatch.setattr(epochs, "epoch_measure", lambda *_: {"loss": 0.5})
    else:
        monkeypatch.setattr(loop, "train_step", too_large if kind == "batch too large" else nan)


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("batch too large", OutOfMemoryError, "out of memory with 2 images at once"),
        ("model too large", OutOfMemoryError, "Tried to allocate 2.00 GiB"),
        ("not a number", NotANumberError, "lower lr|Lower lr"),
        ("undefined", TrainingError, "no epoch had a defined val/auc"),
    ],
)
def test_a_training_that_fails_is_named_and_closed_with_its_cause(
    kind, error, told, development, root, monkeypatch
):
    fails(kind, monkeypatch)
    asked = []
    with pytest.raises(error, match=told):
        trial(
            development,
            root,
            "key",
            go_on=lambda epoch, value: not asked.append(value),
            tags_of=lambda failure: {"histo.trial.state": type(failure).__name__},
        )

    run = only_run(root)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("FAILED", "failed")
    assert error.__name__ in run.data.tags["histo.cause"]
    assert run.data.tags["histo.trial.state"] == error.__name__
    assert asked == ([None] * 3 if kind == "undefined" else [])


@pytest.mark.timeout(600)
def test_a_finished_trial_that_the_store_has_not_is_delivered_by_runs_sync(killed, root):
    taken_over(killed / "results", root)
    run_id = only_run(root).info.run_id
    uri = f"sqlite:///{root / 'mlflow.db'}"
    synced = sync(root / "runs" / run_id, tracking_uri=uri, talk=Talk(quiet=True))

    run = only_run(root)
    assert (synced.ending, synced.model_id, run.info.status) == ("finished", None, "FINISHED")
    assert run.data.tags["histo.trial.state"] == "complete"
    artifacts = [entry.path for entry in MlflowClient(uri).list_artifacts(run_id)]
    assert artifacts == ["history.json", "recipe.yaml"]


def test_other_params_or_other_images_are_another_trial(undisturbed, development, root):
    taken_over(undisturbed.run_dir.parents[1], root)
    with pytest.raises(ResumeError, match=r"lr was 0.003, 0.1 is given"):
        trial(development, root, "undisturbed", recipe=load("demo", {**RECIPE, "lr": "0.1"}))
    other = dataclasses.replace(development, division_digest="another")
    with pytest.raises(ResumeError, match="the division into train and val changed"):
        trial(other, root, "undisturbed")

    assert only_run(root).info.status == "FINISHED"


def test_a_trial_is_no_ordinary_training(undisturbed):
    with pytest.raises(ResumeError, match="holds a trial of a study"):
        train(load("demo", RECIPE), run_dir=undisturbed.run_dir, talk=Talk(quiet=True))


def test_a_training_below_another_run_goes_on_though_a_field_that_may_differ_is_another_by_now(
    root, session_cache, monkeypatch
):
    place = {"tracking_uri": f"sqlite:///{root / 'mlflow.db'}", "experiment": "study"}

    def winner(threads, *, may_differ=("threads",), **where):
        child = Child("0" * 32, "winner", {}, PLAN, lambda run_id: None, may_differ)
        recipe = load("demo", {**RECIPE, "epochs": "1", "threads": threads})
        options = {"doctor_level": None, "pictures": False, "talk": Talk(quiet=True)}
        return train(recipe, **place, **where, child=child, **options)

    def away(*arguments, **options):
        raise TrackingError("away")

    with monkeypatch.context() as patched:
        patched.setattr(training, "conclude", away)
        with pytest.raises(TrackingError, match="away"):
            winner("0", runs_dir=root / "runs")
    (folder,) = (root / "runs").iterdir()
    with pytest.raises(ResumeError, match="threads was 0, 2 is given"):
        winner("2", may_differ=(), run_dir=folder)
    found = winner("2", run_dir=folder)

    run = only_run(root)
    assert (run.info.run_id, run.info.status) == (found.run_id, "FINISHED")
    assert run.data.params["threads"] == "0"


def test_what_the_kills_are_aimed_at_is_there():
    assert [place for place, target in PLACES.items() if not hasattr(*target)] == []
    assert np.isin([moment.partition(":")[0] for moment in KILLS], list(PLACES)).all()
