"""Every way in which a trial ends, with a real queue and a training that only says how it went."""

import dataclasses
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from histo_mlflow.errors import (
    BusyError,
    DataError,
    DeviceError,
    DiskError,
    Interrupted,
    NotANumberError,
    OutOfMemoryError,
    RecipeError,
    ResumeError,
    StudyError,
    TrackingError,
    TrainingError,
)
from histo_mlflow.jobs.search_run import SearchResult
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import objective, workplace
from histo_mlflow.tuning.objective import run_trial
from histo_mlflow.tuning.shared import _put_off, attributes
from histo_mlflow.tuning.study._study_model import StudyFile
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.pruners import Wilcoxon, make_pruner
from histo_mlflow.tuning.workplace import Workplace

SPACE = {"lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}}


@pytest.fixture
def place(one_bench, tmp_path):
    """A workplace on a study of two trials."""

    def made(folds=None, store=None, trials=2):
        file = StudyFile(
            name="s", recipe="demo", metric="val/auc", space=SPACE, trials=trials, folds=folds
        )
        definition = Definition.of(file)
        entries = {
            attributes.KIND: "search",
            attributes.KEY: "key",
            attributes.EXPERIMENT: "e",
            attributes.PARENT: "p" * 32,
        }
        for name, value in entries.items():
            one_bench.study.set_user_attr(name, value)
        queue = one_bench.queue("w")
        queue.fill(trials, [])
        return Workplace(
            study=one_bench.study,
            storage=one_bench.opened.storage,
            queue=queue,
            definition=definition,
            base=definition.base(),
            axes=definition.axes(),
            store=store,
            runs_dir=tmp_path,
            plan={},
            data=SimpleNamespace(of=lambda recipe, division: division),
            signals=signals,
            talk=Talk(quiet=True),
        )

    with ending_by_signal() as signals:
        yield made


@pytest.fixture
def train(monkeypatch):
    """Replace the training: by the values of its epochs, or by what it raises after them."""
    calls = []

    def by(*outcomes):
        left = list(outcomes)

        def fake(recipe, development, *, child, go_on, held, tags_of, run_name, **rest):
            values = left.pop(0)
            call = SimpleNamespace(recipe=recipe, division=development, child=child, tags={})
            call.run_name, call.logged = run_name, []
            calls.append(call)
            run_id = f"{len(calls):032x}"
            child.begun(run_id)
            done = []
            for epoch, value in enumerate(values, start=1):
                if not isinstance(value, float):
                    error = value() if callable(value) else value
                    call.tags = tags_of(error)
                    raise error
                done.append(value)
                held()
                call.logged.append(value)
                if not go_on(epoch, value) and epoch < len(values):
                    break
            ending = "finished" if len(done) == len(values) else "pruned"
            best = max(range(len(done)), key=done.__getitem__)
            result = SearchResult(
                run_id, ending, done[best], best + 1, len(done), 2.0, (), Path(run_id)
            )
            call.tags = tags_of(result)
            return result

        monkeypatch.setattr(objective, "search_run", fake)
        return calls

    return by


def run_first(place):
    trial = place.queue.claim()
    run_trial(place, trial)
    return place.queue.trials()[trial.number]


def test_a_complete_trial_has_the_value_of_its_best_epoch_and_says_where_its_run_is(place, train):
    calls = train([0.5, 0.75, 0.625])
    found = run_first(place())
    (call,) = calls

    assert (found.state, found.value) == (TrialState.COMPLETE, 0.75)
    assert found.intermediate_values == {1: 0.5, 2: 0.75, 3: 0.625}
    noted = {key: found.user_attrs[key] for key in ("histo.state", "histo.run_id")}
    assert noted == {"histo.state": "complete", "histo.run_id": f"{1:032x}"}
    assert [
        found.user_attrs[key]
        for key in (attributes.BEST_EPOCH, attributes.EPOCHS, attributes.SECONDS)
    ] == [2, 3, 2.0]
    assert call.tags == {attributes.STATE_TAG: "complete"}
    assert (call.child.key, call.child.parent, call.run_name) == ("key-0", "p" * 32, "trial 0")
    assert call.recipe.flatten()["lr"] == found.params["lr"]
    assert call.child.tags["histo.study.trial"] == 0
    assert {"data_dir", "device", "precision", "memory_format", "threads"} < {
        *call.child.may_differ
    }
    assert "lr" not in call.child.may_differ
    assert call.division is None


def test_a_trial_that_the_pruner_ends_is_pruned_without_a_value(place, train):
    calls = train([0.9, 0.2, 0.9])
    here = place()
    here.study.pruner = optuna.pruners.ThresholdPruner(lower=0.5)
    found = run_first(here)

    assert found.state == TrialState.PRUNED
    assert found.user_attrs[attributes.STATE] == "pruned"
    assert found.intermediate_values == {1: 0.9, 2: 0.2}
    assert calls[0].tags == {attributes.STATE_TAG: "pruned"}


@pytest.mark.parametrize(
    ("error", "state", "of_optuna"),
    [
        (RecipeError("too few images"), "failed", TrialState.FAIL),
        (TrainingError("no epoch had a val/auc"), "failed", TrialState.FAIL),
        (OutOfMemoryError("out of memory"), "out_of_memory", TrialState.PRUNED),
        (NotANumberError("the loss became nan", ("a",)), "diverged", TrialState.PRUNED),
    ],
    ids=["recipe", "training", "memory", "nan"],
)
def test_what_is_the_trials_own_fault_ends_it_by_name(error, state, of_optuna, place, train):
    calls = train([0.5, error])
    here = place()
    found = run_first(here)

    assert (found.state, found.user_attrs[attributes.STATE]) == (of_optuna, state)
    assert found.user_attrs[attributes.CAUSE] == str(error)
    assert calls[0].tags == {attributes.STATE_TAG: state}
    if of_optuna == TrialState.PRUNED:  # without a value, which is the worst for a sampler
        assert found.values is None
    assert here.queue.claim().number == 1


@pytest.mark.parametrize(
    "error",
    [
        TrackingError("away"),
        DiskError("full"),
        DataError("gone"),
        DeviceError("no CUDA"),
        ResumeError("begun otherwise"),
        Interrupted(signal.SIGTERM),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_end_every_trial_is_raised_and_the_trial_given_back(error, place, train):
    calls = train([0.5, error])
    here = place()
    with pytest.raises(type(error)) as raised:
        run_first(here)
    found = here.queue.trials()[0]

    advice = getattr(raised.value, "__notes__", [])
    assert ["trial 0 anew" in note for note in advice] == [True] * isinstance(error, ResumeError)
    assert found.state == TrialState.WAITING
    assert attributes.LIVES_LOST not in found.user_attrs
    assert not calls[0].tags or isinstance(error, Interrupted)
    assert found.intermediate_values == {1: 0.5}


def test_a_bug_keeps_its_traceback_and_ends_no_trial(place, train):
    train([ZeroDivisionError("a bug")])
    here = place()
    with pytest.raises(ZeroDivisionError):
        run_first(here)

    assert here.queue.trials()[0].state == TrialState.RUNNING


def test_a_trial_that_another_process_trains_is_given_back(place, train, monkeypatch):
    monkeypatch.setattr(_put_off, "PAUSE_SECONDS", 0.0)
    train([BusyError("another process is at it")], [0.5])
    here = place()
    first, again = run_first(here), run_first(here)

    assert first.state == TrialState.WAITING
    assert (again.number, again.state) == (0, TrialState.COMPLETE)
    assert attributes.LIVES_LOST not in again.user_attrs


def test_while_a_trial_is_put_off_the_next_one_is_taken(place, train, one_bench):
    train([BusyError("another process is at it")], [0.5])
    here = place()
    one_bench.queue("boss").fill(2, [])
    first, second = run_first(here), run_first(here)

    assert (first.number, first.state) == (0, TrialState.WAITING)
    assert (second.number, second.state) == (1, TrialState.COMPLETE)
    assert here.queue.claim() is None


def take_over(one_bench):
    """Another worker holds the trial from now on."""
    one_bench.queue("boss").reap(dead=["w"], retries=2)
    return one_bench.queue("other").claim()


def test_a_trial_that_was_lost_is_left_to_who_has_it_now(place, train, one_bench):
    here = place()

    def lost():
        take_over(one_bench)
        here.queue.check(here.queue.trials()[0]._trial_id)

    train([0.5, lost])
    found = run_first(here)

    assert found.state == TrialState.RUNNING
    assert "other" in found.user_attrs[attributes.LEASE]
    assert attributes.STATE not in found.user_attrs


def test_a_trial_that_was_lost_in_its_last_epoch_does_not_end_the_worker(
    place, train, one_bench, monkeypatch
):
    train([0.5])
    here = place()
    finish = type(here.queue).finish

    def taken_over_before(queue, *arguments, **options):
        take_over(one_bench)
        finish(queue, *arguments, **options)

    monkeypatch.setattr(type(here.queue), "finish", taken_over_before)
    found = run_first(here)

    assert found.state == TrialState.RUNNING
    assert "other" in found.user_attrs[attributes.LEASE]


def end_by_hand(place):
    """As `optuna tell` does."""
    storage, (first, *_) = place.storage, place.queue.trials()
    storage.set_trial_state_values(first._trial_id, TrialState.FAIL)


@pytest.mark.parametrize("moment", ["suggest", "_note_run", "_report", "_should_prune"])
def test_a_trial_that_somebody_ends_meanwhile_is_let_go_of(moment, place, train, monkeypatch):
    calls = train([0.5, 0.75])
    here, original = place(), getattr(objective, moment)
    here.study.pruner = optuna.pruners.SuccessiveHalvingPruner(1)  # notes what it found

    def ended_before(*arguments, **options):
        end_by_hand(here)
        return original(*arguments, **options)

    monkeypatch.setattr(objective, moment, ended_before)
    found = run_first(here)

    assert found.state == TrialState.FAIL
    assert attributes.STATE not in found.user_attrs
    assert [call.tags for call in calls] == [{}] * len(calls)


def test_the_lost_trial_is_noticed_before_its_epoch_is_logged(place, train, one_bench):
    here, asked = place(), []
    check = here.queue.check

    def lost_at_once(trial_id):
        asked.append(trial_id)
        take_over(one_bench)
        check(trial_id)

    here.queue.check = lost_at_once
    calls = train([0.5])
    found = run_first(here)

    assert (len(asked), calls[0].logged) == (1, [])
    assert found.intermediate_values == {}


def test_a_storage_that_is_away_before_an_epoch_is_logged_costs_the_epoch_nothing(place, train):
    here, asked = place(), []

    def away(trial_id):
        asked.append(trial_id)
        raise StudyError("the storage is away")

    here.queue.check = away
    calls = train([0.5])
    with pytest.raises(StudyError):
        run_first(here)

    # Once before the epoch is logged, and once when it is saved.
    assert (len(asked), calls[0].logged) == (2, [0.5])


def test_a_signal_while_a_trial_is_ended_waits_for_that(place, train, monkeypatch):
    kept = []

    def signalled(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        kept.append(arguments)

    monkeypatch.setattr(workplace, "keep_best", signalled)
    train([0.5])
    here = place()
    with pytest.raises(Interrupted):
        run_first(here)

    assert here.queue.trials()[0].state == TrialState.COMPLETE
    assert len(kept) == 1


def test_epochs_that_an_earlier_life_reported_are_not_reported_again(place, train, one_bench):
    train([0.5, 0.75, Interrupted(signal.SIGTERM)], [0.5, 0.75, 0.875])
    here = place()
    with pytest.raises(Interrupted):
        run_first(here)
    asked = []
    here.study.pruner = SimpleNamespace(
        prune=lambda study, trial: asked.append(max(trial.intermediate_values)) or False
    )
    found = run_first(here)

    assert (found.number, found.value) == (0, 0.875)
    assert found.intermediate_values == {1: 0.5, 2: 0.75, 3: 0.875}
    assert asked == [2, 2, 3]


# Trials on folds


@pytest.fixture
def folded(place, store_uri):
    store = connect(store_uri)
    return lambda **options: place(store=store, **options)


def runs(store):
    experiments = [one.experiment_id for one in store.client.search_experiments()]
    return store.client.search_runs(experiments)


def test_a_trial_on_folds_is_worth_their_mean_and_has_a_run_of_each_below_its_own(folded, train):
    calls = train([0.5, 0.75], [0.25, 0.125], [1.0])
    here = folded(folds=3)
    found = run_first(here)
    (run,) = runs(here.store)
    history = here.store.client.get_metric_history(run.info.run_id, "val/auc")

    assert (found.state, found.value) == (TrialState.COMPLETE, (0.75 + 0.25 + 1.0) / 3)
    assert found.intermediate_values == {1: 0.75, 2: 0.25, 3: 1.0}
    assert [call.child.key for call in calls] == [f"key-0-fold{fold}" for fold in range(3)]
    assert {call.child.parent for call in calls} == {run.info.run_id}
    assert [(call.division.fold, call.division.folds) for call in calls] == [
        (0, 3),
        (1, 3),
        (2, 3),
    ]
    assert {call.division.seed for call in calls} == {here.base.split.split_seed}
    assert found.user_attrs[attributes.RUN_ID] == run.info.run_id
    assert found.user_attrs[attributes.FOLD_RUNS] == [f"{number:032x}" for number in (1, 2, 3)]
    assert [point.value for point in history] == [0.75, 0.25, 1.0]
    assert (run.info.status, run.data.tags[attributes.STATE_TAG]) == ("FINISHED", "complete")
    assert run.data.tags["histo.study.trial"] == "0"


def test_a_trial_that_is_worse_on_every_fold_is_pruned_by_wilcoxon(folded, train):
    good = [[0.9], [0.8], [0.95], [0.85], [0.9], [0.8]]
    bad = [[0.5], [0.4], [0.45], [0.35], [0.5], [0.4]]
    train(*good, *bad)
    here = folded(folds=6)
    here.study.pruner = make_pruner(Wilcoxon(p=0.2, startup_folds=2), epochs=6)
    first, second = run_first(here), run_first(here)

    assert first.state == TrialState.COMPLETE
    assert second.state == TrialState.PRUNED
    # By scipy.stats.wilcoxon(alternative="less") of 2, 3, ... differences below 0: 1/4, 1/8.
    assert len(second.intermediate_values) == 3
    states = {run.data.tags["histo.study.trial"]: run for run in runs(here.store)}
    assert states["1"].data.tags[attributes.STATE_TAG] == "pruned"
    assert states["1"].info.status == "KILLED"


def test_after_a_kill_between_folds_no_value_is_told_twice_and_the_run_is_the_same(
    folded, train, one_bench
):
    train([0.5], [Interrupted(signal.SIGTERM)], [0.5], [0.75])
    here = folded(folds=2)
    with pytest.raises(Interrupted):
        run_first(here)
    (killed,) = runs(here.store)
    found = run_first(here)
    (run,) = runs(here.store)
    history = here.store.client.get_metric_history(run.info.run_id, "val/auc")

    assert killed.info.status == "KILLED"
    assert run.info.run_id == killed.info.run_id
    assert (found.value, found.intermediate_values) == (0.625, {1: 0.5, 2: 0.75})
    assert sorted((point.step, point.value) for point in history) == [(0, 0.5), (1, 0.75)]


def test_after_a_kill_only_the_newest_fold_that_was_begun_is_asked_about(folded, train):
    train([0.5], [0.5], [Interrupted(signal.SIGTERM)], [0.5], [0.5], [0.5], [0.75])
    here, asked = folded(folds=4), []
    with pytest.raises(Interrupted):
        run_first(here)
    # Others are far ahead by now, and this one would not have come so far.
    here.study.pruner = SimpleNamespace(
        prune=lambda study, trial: asked.append(max(trial.intermediate_values)) or True
    )
    found = run_first(here)

    assert asked == [3]
    assert found.state == TrialState.PRUNED
    assert found.user_attrs[attributes.EPOCHS] == 3
    assert found.user_attrs[attributes.SECONDS] == 6.0


def test_a_trial_on_folds_that_was_lost_leaves_its_run_to_who_has_it_now(folded, train, one_bench):
    here = folded(folds=2)

    def lost():
        (run,) = runs(here.store)
        take_over(one_bench)
        here.store.client.set_terminated(run.info.run_id, "FINISHED")
        here.queue.check(here.queue.trials()[0]._trial_id)

    train([0.5], [lost])
    run_first(here)
    (run,) = runs(here.store)

    assert run.info.status == "FINISHED"
    assert {"histo.ending", "histo.cause", attributes.STATE_TAG}.isdisjoint(run.data.tags)


def test_the_run_of_a_trial_on_folds_goes_on_with_another_device(folded, train):
    train([0.5], [Interrupted(signal.SIGTERM)], [0.5], [0.75])
    here = folded(folds=2)
    with pytest.raises(Interrupted):
        run_first(here)
    base = here.base.model_copy(
        update={"machine": here.base.machine.model_copy(update={"threads": 3})}
    )
    found = run_first(dataclasses.replace(here, base=base))
    (run,) = runs(here.store)

    assert found.state == TrialState.COMPLETE
    assert (run.info.status, run.data.params["threads"]) == ("FINISHED", "0")


def test_a_fold_that_cannot_be_trained_fails_the_trial_and_its_run(folded, train):
    train([0.5], [OutOfMemoryError("out of memory")])
    here = folded(folds=2)
    found = run_first(here)
    (run,) = runs(here.store)

    assert found.user_attrs[attributes.STATE] == "out_of_memory"
    assert run.info.status == "FAILED"
    assert run.data.tags[attributes.STATE_TAG] == "out_of_memory"


@pytest.mark.parametrize(("folds", "reports"), [(None, "epoch"), (3, "fold")])
def test_a_sampler_is_told_what_a_trial_reports_once_in(monkeypatch, place, folds, reports):
    asked = []

    def make_sampler(*spec, **more):
        asked.append(more["reports"])
        return optuna.samplers.RandomSampler()

    monkeypatch.setattr(workplace, "make_sampler", make_sampler)
    place(folds).claim()

    assert asked == [reports]
