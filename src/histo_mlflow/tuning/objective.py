"""One trial: the params it is given, the trainings they make, and the ending it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from histo_mlflow.errors import (
    BusyError,
    DataError,
    DeviceError,
    DiskError,
    HistoMlflowError,
    Interrupted,
    NotANumberError,
    OutOfMemoryError,
    ResumeError,
    StudyError,
    TrackingError,
)
from histo_mlflow.jobs.development import Division
from histo_mlflow.jobs.epochs import GoOn
from histo_mlflow.jobs.opening import Child
from histo_mlflow.jobs.search_run import SearchResult, search_run
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tuning.confirm import confirmation
from histo_mlflow.tuning.confirm.confirm_plan import plan_of
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.attributes import TrialState
from histo_mlflow.tuning.shared.queue import LostTrialError
from histo_mlflow.tuning.study.space import suggest, trial_recipe
from histo_mlflow.tuning.workplace import Workplace

_NOT_OF_THE_TRIAL = (TrackingError, DiskError, DataError, DeviceError, ResumeError, StudyError)
"""What would end every other trial too, or is no fault of its params; BusyError is one of these."""


@dataclass(frozen=True)
class Ended:
    """How a trial ended.

    Attributes:
        state: see `attributes.TrialState`.
        value: of a complete one.
        cause: one sentence, of one that could not be trained to its end.
        facts: more attributes of the trial.
    """

    state: TrialState
    value: float | None = None
    cause: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def run_trial(place: Workplace, trial: Trial) -> None:
    """Train what a trial asks for, and tell the study how it ended.

    Raises:
        HistoMlflowError: what would end every other trial as well; this one was given back.
        Interrupted: its state is saved and it was given back.
    """
    try:
        with place.queue.beating(trial):
            ended = _ended(place, trial)
        with place.signals.whole():  # what was trained to its end is not given back
            place.queue.finish(
                trial._trial_id, ended.state, ended.value, cause=ended.cause, attrs=ended.facts
            )
            place.keep_best()
    except LostTrialError:
        return  # another worker has it; this one was taken for dead
    except BusyError as error:
        place.queue.put_off(trial._trial_id, error)
        return
    except (*_NOT_OF_THE_TRIAL, Interrupted):
        place.queue.give_back(trial._trial_id)
        raise


def _ended(place: Workplace, trial: Trial) -> Ended:
    train = {"search": _search, "confirm": _confirm}[place.attribute(name.KIND)]
    try:
        return train(place, trial)
    except BusyError:
        raise
    except ResumeError as error:
        error.add_note(f"to train trial {trial.number} anew, remove the folder of its run")
        raise
    except _NOT_OF_THE_TRIAL:
        raise
    except HistoMlflowError as error:
        return Ended(_state_of(error), cause=str(error))


@contextmanager
def _ended_is_lost() -> Iterator[None]:
    """Optuna's word for a trial that somebody else has ended, said as the queue says it."""
    try:
        yield
    except UpdateFinishedTrialError as error:
        raise LostTrialError("the trial was ended by another process") from error


def _state_of(came_out: SearchResult | Exception) -> TrialState:
    """The ending by name of what came of a training."""
    if isinstance(came_out, SearchResult):
        return "pruned" if came_out.ending == "pruned" else "complete"
    if isinstance(came_out, OutOfMemoryError):
        return "out_of_memory"
    return "diverged" if isinstance(came_out, NotANumberError) else "failed"


def _tags_of(came_out: SearchResult | Exception) -> dict[str, object]:
    """What a training's run says of it as it is closed."""
    if isinstance(came_out, _NOT_OF_THE_TRIAL):
        return {}  # the trial has not ended
    return {name.STATE_TAG: _state_of(came_out)}


def _search(place: Workplace, trial: Trial) -> Ended:
    with _ended_is_lost():
        values = suggest(place.axes, trial)
    recipe = trial_recipe(place.base, values, name=f"{place.title}-{trial.number}")
    if place.definition.folds is None:
        return _of(_trained(place, trial, recipe, None, partial(_go_on, place, trial)))
    return _over_folds(place, trial, recipe, place.definition.folds)


def _confirm(place: Workplace, trial: Trial) -> Ended:
    plan = plan_of(place.attribute(name.CONFIRM))
    with _ended_is_lost():
        candidate = trial.suggest_int("candidate", 0, len(plan.candidates) - 1)
        replicate = trial.suggest_int("replicate", 0, len(plan.replicates) - 1)
    one, round_ = plan.candidates[candidate], plan.replicates[replicate]
    recipe = confirmation.recipe_of(place.base, one, round_)

    def go_on(epoch: int, value: float | None) -> bool:
        place.queue.check(trial._trial_id)
        _report(place, trial, epoch, value)
        return True

    done = _trained(
        place,
        trial,
        recipe,
        round_.division,
        go_on,
        title=f"confirm {one.name}, replicate {replicate}",
        predictions=True,
    )
    return _of(done)


def _over_folds(place: Workplace, trial: Trial, recipe: Recipe, folds: int) -> Ended:
    """The mean over group folds of the development images, each trained in a run of its own."""
    values: list[float] = []
    trained: list[SearchResult] = []
    # In earlier lives. What is before the newest was asked about, and others may be far ahead now.
    begun = len(trial.user_attrs.get(name.FOLD_RUNS, []))
    run = start_run(
        place.store,
        place.attribute(name.EXPERIMENT),
        f"trial {trial.number}",
        recipe.flatten(),
        place.tags(trial),
        follow_project=False,
        system_metrics=False,
        key=place.key(trial),
        may_differ=place.definition.elsewhere,
    )
    with run, _told_of_errors(run):
        _note_run(place, trial, run.run_id, own=True)
        for fold in range(folds):
            division = Division(folds, fold, recipe.split.split_seed)

            def go_on(epoch: int, value: float | None) -> bool:
                place.queue.check(trial._trial_id)
                return True

            done = _trained(place, trial, recipe, division, go_on, parent=run.run_id)
            trained.append(done)
            values.append(done.value)
            mean = sum(values) / len(values)
            run.log_epoch(fold, {place.definition.metric: done.value, "mean": mean})
            _report(place, trial, fold + 1, done.value)
            if begun - 1 <= fold < folds - 1 and _should_prune(trial):
                run.set_tags({name.STATE_TAG: "pruned"})
                run.end("pruned")
                return Ended("pruned", facts=_facts(trained))
        run.set_tags({name.STATE_TAG: "complete"})
    return Ended("complete", mean, facts=_facts(trained))


@contextmanager
def _told_of_errors(run: TrackedRun) -> Iterator[None]:
    """Tag the run of a trial whose fold could not be trained, as that of the fold is."""
    try:
        yield
    except HistoMlflowError as error:
        run.tag_at_end(_tags_of(error))
        raise


def _trained(
    place: Workplace,
    trial: Trial,
    recipe: Recipe,
    division: Division | None,
    go_on: GoOn,
    *,
    parent: str | None = None,
    title: str | None = None,
    predictions: bool = False,
) -> SearchResult:
    """One training of a trial, gone on with where it was begun."""
    own = parent is None  # the trial's own run, and not that of one of its folds
    suffix = "" if own or division is None else f"-fold{division.fold}"
    fold = "" if division is None else f", fold {division.fold}"
    return search_run(
        recipe,
        place.data.of(recipe, division),
        store=place.store,
        experiment=place.attribute(name.EXPERIMENT),
        run_name=title or f"trial {trial.number}{'' if own else fold}",
        runs_dir=place.runs_dir,
        child=Child(
            parent=parent or place.attribute(name.PARENT),
            key=place.key(trial) + suffix,
            tags=place.tags(trial),
            plan=place.plan,
            begun=lambda run_id: _note_run(place, trial, run_id, own=own),
            may_differ=place.definition.elsewhere,
        ),
        signals=place.signals,
        go_on=go_on,
        held=partial(_held, place, trial),
        tags_of=_tags_of,
        predictions=predictions,
        talk=place.talk,
    )


@_ended_is_lost()
def _note_run(place: Workplace, trial: Trial, run_id: str, *, own: bool) -> None:
    """Write down a run that the trial trains: its own, or that of one of its folds."""
    if own:
        trial.set_user_attr(name.RUN_ID, run_id)
        return
    known: list[str] = trial.user_attrs.get(name.FOLD_RUNS, [])
    if run_id not in known:
        trial.set_user_attr(name.FOLD_RUNS, [*known, run_id])


def _go_on(place: Workplace, trial: Trial, epoch: int, value: float | None) -> bool:
    """Report an epoch, unless that was done in an earlier life; whether the trial is to go on."""
    place.queue.check(trial._trial_id)
    _report(place, trial, epoch, value)
    return not _should_prune(trial)


def _held(place: Workplace, trial: Trial) -> None:
    """Raise `LostTrialError` if an epoch is not to be logged: the trial is another's by now."""
    try:
        place.queue.check(trial._trial_id)
    except LostTrialError:
        raise
    except StudyError:
        return  # the storage is away; `go_on` meets the same once the epoch is saved


@_ended_is_lost()
def _should_prune(trial: Trial) -> bool:
    return trial.should_prune()  # some pruners write what they found


@_ended_is_lost()
def _report(place: Workplace, trial: Trial, step: int, value: float | None) -> None:
    if value is not None and step not in place.reported(trial):
        trial.report(value, step)


def _of(done: SearchResult) -> Ended:
    if done.ending == "pruned":
        return Ended("pruned", facts=_facts([done]))
    return Ended("complete", done.value, facts=_facts([done]))


def _facts(trained: list[SearchResult]) -> dict[str, Any]:
    best = {name.BEST_EPOCH: trained[0].best_epoch} if len(trained) == 1 else {}
    return {
        **best,
        name.EPOCHS: sum(done.epochs for done in trained),
        name.SECONDS: sum(done.seconds for done in trained),
    }
