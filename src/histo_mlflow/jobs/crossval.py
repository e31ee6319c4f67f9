"""Cross-validation: a training for each fold as child runs of one, judged together.

Every fold is an ordinary training, in a run and a folder of its own, that can be gone on with. What
ends the process, the same command with the same run folder goes on: folds that are finished are not
trained again, and the one in the middle goes on from its checkpoint.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from histo_mlflow import files
from histo_mlflow.errors import Interrupted, TrackingError
from histo_mlflow.jobs._crossval_folds import Parent, train_fold
from histo_mlflow.jobs._crossval_outcome import conclude, log_beginning, read_report
from histo_mlflow.jobs._crossval_plan import (
    Notes,
    begun_notes,
    new_notes,
    planned,
    worst_crossing,
    write_notes,
)
from histo_mlflow.jobs._crossval_report import render
from histo_mlflow.jobs.at_end import draw_at_end
from histo_mlflow.jobs.closing import close_orphan, closing_if_left, note_ending
from histo_mlflow.jobs.deliver import advised, deliver, store_uri
from histo_mlflow.jobs.epochs import CheckpointPolicy
from histo_mlflow.jobs.opening import found_or_begun
from histo_mlflow.jobs.parent import GONE, ending_with_parent
from histo_mlflow.jobs.ready import Ready, get_ready
from histo_mlflow.jobs.resume import (
    refuse_begun_elsewhere,
    refuse_other_recipe,
    refuse_trial,
    run_folder,
)
from histo_mlflow.jobs.run_folder import OUT_OF_FOLD, RunFolder, locked
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import TrainResult, train
from histo_mlflow.paths import cache_dir
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.lifecycle import WHOLE
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.training.doctor import DoctorLevel

_SAID = frozenset({"device", "data", "pixels", "leaks", "model", "look", "doctor", "saved", ""})
"""What a fold need not say once more, as the cross-validation has said it, or says it itself."""


@dataclass(frozen=True)
class CrossvalResult:
    """Where a finished cross-validation is, and how it came out.

    Attributes:
        run_id: of the parent run.
        model_id: the ensemble of the folds' models, `models:/<id>`.
        seconds: of the process that finished it.
        run_dir: its folder.
        report: folds, means, pooled metrics, intervals and the gap, as JSON values.
    """

    run_id: str
    model_id: str
    seconds: float
    run_dir: Path
    report: Mapping[str, Any] = field(repr=False)

    def table(self) -> str:
        """The report as a table for a terminal."""
        return render(self.report)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**asdict(self), "run_dir": str(self.run_dir)}


def crossval(
    recipe: Recipe,
    *,
    leak_gap: bool | None = None,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    run_name: str | None = None,
    runs_dir: str | Path = "runs",
    run_dir: str | Path | None = None,
    resume: str | None = None,
    checkpoints: CheckpointPolicy | None = None,
    doctor_level: DoctorLevel | None = "quick",
    pictures: bool = True,
    talk: Talk | None = None,
) -> CrossvalResult:
    """Train every fold, join what each says of its test images, and keep the ensemble.

    Everything that can be wrong with what was asked for is found before a run is created.

    Args:
        recipe: what to do in every fold; `folds` is 5 where it names none.
        leak_gap: also train the same number of row-wise folds, which leak, and report by how much
            they flatter; None for no, or for what was begun.
        tracking_uri: as for `train`.
        experiment: of the parent and of the folds' runs.
        run_name: of the parent; the folds' names begin with it.
        runs_dir: the parent's and the folds' local files go to folders of their ids in here.
        run_dir: the parent's go here instead; a cross-validation in this folder is gone on with.
        resume: go on with the cross-validation of this parent run.
        checkpoints: how often to save within an epoch.
        doctor_level: what is examined before the first step of each fold.
        pictures: draw the evaluation of the out-of-fold predictions; folds get none of their own.
        talk: says what happens.

    Raises:
        HistoMlflowError: as `train`; or the folds cannot be made. A fold that failed has failed
            the parent run.
        Interrupted: as `train`; the runs of fold and parent are closed as KILLED.
    """
    talk, recipe = talk or Talk(), planned(recipe)
    with ExitStack() as stack:
        signals = stack.enter_context(ending_by_signal())
        begun = run_folder(resume=resume, run_dir=run_dir, runs_dir=runs_dir)
        facts, notes = None, new_notes(recipe, leak_gap)
        if begun is not None:
            stack.enter_context(locked(begun))
            facts = begun.facts()
        if begun is not None and facts is not None:
            refuse_trial(begun)
            notes = begun_notes(begun, recipe, leak_gap)
            refuse_other_recipe(begun, recipe)
            begun.remove_leftovers()
            if (done := _finished(begun)) is not None:
                talk.say("done", f"cross-validation {done.run_id} was finished before")
                return done
            tracking_uri = store_uri(facts, tracking_uri)
        store = connect(tracking_uri)
        stack.push(lambda _, error, __: close_orphan(store, error))
        stack.enter_context(ending_with_parent(lambda: setattr(signals, "why", GONE)))
        if begun is not None and facts is None:
            refuse_begun_elsewhere(store, begun)
        with files.told_if_full(cache_dir()):
            ready = get_ready(recipe, decided=None if facts is None else facts.plan, talk=talk)
        crossing = worst_crossing(ready, notes)
        files.assert_writable(Path(runs_dir))
        title, name = experiment or recipe.name, run_name or f"{recipe.name} crossval"
        with signals.whole():  # until there is somebody to close what is made here
            folder, facts, made = found_or_begun(
                store, recipe, ready.plan, begun, facts, title, name, Path(runs_dir)
            )
            with closing_if_left(store, made, folder):
                if begun is None:
                    stack.enter_context(locked(folder))
                write_notes(folder, notes)
                run = start_run(
                    store,
                    facts.experiment,
                    None,
                    _params(recipe, notes),
                    _tags(ready, notes, crossing),
                    run_id=facts.run_id,
                    system_metrics=False,  # each fold's run has them
                    journal_path=folder.journal,
                )
            stack.enter_context(run)
            stack.push(lambda _, error, __: note_ending(folder, error))
        talk.say("run", f"{run.run_id} in {store.shown_uri}, parent of {len(notes.all_folds())}")
        parent = Parent(
            run, _experiment_name(run), ready, folder, facts, name, Path(runs_dir), talk
        )
        trained = partial(
            train,
            tracking_uri=store.tracking_uri,
            experiment=parent.experiment,
            runs_dir=runs_dir,
            checkpoints=checkpoints,
            doctor_level=doctor_level,
            pictures=False,
            talk=replace(talk, kept=[], muted=_SAID),
        )
        result = _run(parent, notes, trained, pictures=pictures)
        run.end("finished")
        folder.note_delivered("ended")
    talk.say("look", run.url)
    return result


def _run(
    parent: Parent, notes: Notes, trained: Callable[..., TrainResult], *, pictures: bool
) -> CrossvalResult:
    folder, outcome = parent.folder, parent.folder.outcome()
    if outcome is None or outcome["ending"] not in WHOLE:
        folder.write_outcome(None)
        started = perf_counter()
        log_beginning(parent, notes)
        try:
            notes = _train_all(parent, notes, trained)
        except Interrupted:
            parent.talk.say("saved", f"go on: {_again(parent)}")
            raise
        outcome = conclude(parent, notes, started)
    try:
        model_id = deliver(parent.run, folder, outcome, talk=parent.talk)
        if pictures:
            ready = parent.ready
            draw_at_end(
                parent.run, folder, OUT_OF_FOLD, ready.prepared, ready.plan, talk=parent.talk
            )
    except TrackingError as error:
        raise advised(error, folder) from error
    return _result(folder, outcome, model_id)


def _train_all(parent: Parent, notes: Notes, trained: Callable[..., TrainResult]) -> Notes:
    folds = notes.all_folds()
    for position, fold in enumerate(folds, 1):
        parent.talk.say("fold", f"{fold.number} by {fold.how}, training {position} of {len(folds)}")
        notes = train_fold(parent, notes, fold, trained)
    return notes


def _again(parent: Parent) -> str:
    """The command that goes on."""
    where = [] if str(parent.runs_dir) == "runs" else ["--runs-dir", str(parent.runs_dir)]
    words = ["histo-mlflow", "crossval", "--run-dir", str(parent.folder.path), *where]
    return shlex.join(words)


def _params(recipe: Recipe, notes: Notes) -> dict[str, object]:
    """The recipe's fields without `fold`, which is another one for each child."""
    fields = {name: value for name, value in recipe.flatten().items() if name != "fold"}
    return {**fields, "leak_gap": notes.leak_gap}


def _tags(ready: Ready, notes: Notes, crossing: int) -> dict[str, object]:
    """The tags of a training, with what holds for all folds by group."""
    tags = ready.tags()
    promotable = tags["histo.promotable"] == "true" and not crossing
    return {
        **tags,
        "histo.crossval.folds": notes.folds,
        "histo.crossval.leak_gap": str(notes.leak_gap).lower(),
        "histo.leak_groups.crossing": crossing,
        "histo.promotable": str(promotable).lower(),
    }


def _experiment_name(run: TrackedRun) -> str:
    """Where the parent lies; under `mlflow run` that is not what was asked for."""
    store = run.store
    found = store.ask("looking at the run", lambda: store.client.get_experiment(run.experiment_id))
    return str(found.name)


def _finished(folder: RunFolder) -> CrossvalResult | None:
    """What came of a cross-validation that is whole, here and in the store."""
    outcome, delivered = folder.outcome(), folder.delivered()
    if outcome is None or outcome["ending"] not in WHOLE or "ended" not in delivered:
        return None
    return _result(folder, outcome, delivered["model_id"])


def _result(folder: RunFolder, outcome: Mapping[str, Any], model_id: str) -> CrossvalResult:
    found = outcome["result"]
    return CrossvalResult(
        found["run_id"], model_id, found["seconds"], folder.path, read_report(folder)
    )
