"""The main job: a recipe in, a finished MLflow run with a model that can be served out.

Whatever ends the process, the same command with the same run folder goes on where it was, in the
same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from histo_mlflow import files
from histo_mlflow.data.findings import Finding, Level
from histo_mlflow.errors import TrackingError
from histo_mlflow.jobs import doctor
from histo_mlflow.jobs.at_end import draw_at_end
from histo_mlflow.jobs.beginning import log_beginning
from histo_mlflow.jobs.closing import close_orphan, closing_if_left, note_ending
from histo_mlflow.jobs.deliver import advised, deliver, store_uri
from histo_mlflow.jobs.epochs import CheckpointPolicy, Epochs
from histo_mlflow.jobs.metrics import EPOCH_METRICS
from histo_mlflow.jobs.opening import Child, found_or_begun
from histo_mlflow.jobs.outcome import conclude
from histo_mlflow.jobs.parent import GONE, ending_with_parent
from histo_mlflow.jobs.ready import Ready, get_ready
from histo_mlflow.jobs.resume import (
    begun_recipe,
    machine,
    other_machine,
    refuse_begun_elsewhere,
    refuse_crossval,
    refuse_other_recipe,
    refuse_trial,
    run_folder,
)
from histo_mlflow.jobs.run_folder import PREDICTIONS, RunFolder, locked
from histo_mlflow.jobs.signals import Ending as SignalEnding
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.paths import cache_dir
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.lifecycle import WHOLE, Ending
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.training.doctor import DoctorLevel


@dataclass(frozen=True)
class TrainResult:
    """Where a finished run is, and how it came out."""

    run_id: str
    ending: Ending
    best_epoch: int
    epochs: int
    seconds: float
    test: Mapping[str, float]
    model_id: str
    run_dir: Path

    def headline(self) -> dict[str, float]:
        """The test metrics that fit on a line."""
        return {name: self.test[name] for name in EPOCH_METRICS if name in self.test}

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**asdict(self), "test": dict(self.test), "run_dir": str(self.run_dir)}


def train(
    recipe: Recipe,
    *,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    run_name: str | None = None,
    runs_dir: str | Path = "runs",
    run_dir: str | Path | None = None,
    resume: str | None = None,
    checkpoints: CheckpointPolicy | None = None,
    doctor_level: DoctorLevel | None = "quick",
    pictures: bool = True,
    child: Child | None = None,
    talk: Talk | None = None,
) -> TrainResult:
    """Check, split, pack, train, judge, log; or go on with a run that was begun.

    Everything that can be wrong with what was asked for is found before a run is created.

    Args:
        recipe: what to do.
        tracking_uri: MLflow store; None: where the run was begun, or `MLFLOW_TRACKING_URI`, or
            `sqlite:///mlflow.db`.
        experiment: MLflow experiment; None: the recipe's name. Under `mlflow run` the run that it
            made is continued instead.
        run_name: MLflow run name; None: the recipe's name.
        runs_dir: the run's local files go to a folder of its id in here.
        run_dir: they go here instead; a run that is in this folder is gone on with.
        resume: go on with this run, whose files are in `runs_dir`.
        checkpoints: how often to save within an epoch.
        doctor_level: what is examined before the first step; None for nothing.
        pictures: draw the evaluation's; `histo-mlflow evaluate` can draw them later.
        child: of which run this one is a child; None for a run of its own.
        talk: says what happens.

    Raises:
        HistoMlflowError: what is wrong with the recipe, the data, the weights, the device or the
            store, or the run to go on with is another one; or training failed, and the run is
            closed as FAILED.
        Interrupted: SIGINT, SIGTERM or SIGHUP, or `mlflow run` is gone; the state is saved and
            the run closed as KILLED.
    """
    talk = talk or Talk()
    may_differ = () if child is None else child.may_differ
    with ExitStack() as stack:
        signals = stack.enter_context(ending_by_signal())
        begun = run_folder(
            resume=resume, run_dir=run_dir, runs_dir=runs_dir, follow_project=child is None
        )
        facts = None
        if begun is not None:
            stack.enter_context(locked(begun))
            facts = begun.facts()
        if begun is not None and facts is not None:
            refuse_crossval(begun)
            refuse_trial(begun)
            refuse_other_recipe(begun, recipe, may_differ=may_differ)
            recipe = begun_recipe(begun) if may_differ else recipe
            begun.remove_leftovers()
            if (done := _finished(begun)) is not None:
                talk.say("done", f"run {done.run_id} was finished before")
                return done
            tracking_uri = store_uri(facts, tracking_uri)
        store = connect(tracking_uri)
        if child is None:
            stack.push(lambda _, error, __: close_orphan(store, error))
        # Not before: an import that is cut short cannot be had again, to close the run.
        stack.enter_context(ending_with_parent(lambda: setattr(signals, "why", GONE)))
        if begun is not None and facts is None and child is None:
            refuse_begun_elsewhere(store, begun)
        decided = facts.plan if facts is not None else child.plan if child is not None else None
        with files.told_if_full(cache_dir()):
            ready = get_ready(recipe, decided=decided, talk=talk)
        if facts is not None and (told := other_machine(facts.machine, machine(ready.plan))):
            talk.say("WARN", told)
        findings = _examine(ready, doctor_level, talk=talk)
        title = experiment or recipe.name
        if begun is None:
            files.assert_writable(Path(runs_dir))
        with signals.whole():  # until there is somebody to close what is made here
            folder, facts, made = found_or_begun(
                store,
                recipe,
                ready.plan,
                begun,
                facts,
                title,
                run_name or recipe.name,
                Path(runs_dir),
                child,
            )
            with closing_if_left(store, made, folder):
                if begun is None:
                    stack.enter_context(locked(folder))
                if child is not None:
                    child.begun(str(facts.run_id))
                run = start_run(
                    store,
                    facts.experiment,
                    None,
                    recipe.flatten(),
                    ready.tags() | (child.all_tags() if child is not None else {}),
                    run_id=facts.run_id,
                    journal_path=folder.journal,
                    may_differ=may_differ,
                )
            stack.enter_context(run)
            stack.push(lambda _, error, __: note_ending(folder, error))
        talk.say("run", f"{run.run_id} in {store.shown_uri}")
        result = _run(
            run, ready, folder, findings, checkpoints, signals, pictures=pictures, talk=talk
        )
        run.end(result.ending)
        folder.note_delivered("ended")
    talk.say("look", run.url)
    return result


def _finished(folder: RunFolder) -> TrainResult | None:
    """What came of a run that is whole, here and in the store."""
    outcome, delivered = folder.outcome(), folder.delivered()
    if outcome is None or outcome["ending"] not in WHOLE or "ended" not in delivered:
        return None
    return _result(folder, outcome, delivered["model_id"])


def _result(folder: RunFolder, outcome: Mapping[str, Any], model_id: str) -> TrainResult:
    found = outcome["result"]
    return TrainResult(
        run_id=found["run_id"],
        ending=outcome["ending"],
        best_epoch=found["best_epoch"],
        epochs=found["epochs"],
        seconds=found["seconds"],
        test=found["test"],
        model_id=model_id,
        run_dir=folder.path,
    )


def _examine(ready: Ready, level: DoctorLevel | None, *, talk: Talk) -> list[Finding]:
    if level is None:
        return []
    started = perf_counter()
    findings = doctor.examine(ready, level=level)
    prepared = ready.prepared
    told = {finding.check for finding in (*prepared.findings, prepared.leak_groups())}
    for finding in findings:
        if finding.level is Level.WARN and finding.check not in told:
            talk.say(str(finding.level), f"{finding.check}: {finding.message}")
    doctor.assert_healthy(findings)
    talk.say("doctor", f"{len(findings)} checks, none failed ({perf_counter() - started:.1f} s)")
    return findings


def _run(
    run: TrackedRun,
    ready: Ready,
    folder: RunFolder,
    findings: list[Finding],
    policy: CheckpointPolicy | None,
    signals: SignalEnding,
    *,
    pictures: bool,
    talk: Talk,
) -> TrainResult:
    outcome = folder.outcome()
    if outcome is None or outcome["ending"] not in WHOLE:
        folder.write_outcome(None)
        started = perf_counter()
        epochs = Epochs(
            run, ready.trainable(), folder, policy or CheckpointPolicy(), signals, talk=talk
        )
        log_beginning(run, ready, folder, findings, talk=talk)
        epochs.train()
        outcome = conclude(run, ready, folder, epochs, started, talk=talk)
    try:
        model_id = deliver(run, folder, outcome, talk=talk)
        if pictures:
            draw_at_end(run, folder, PREDICTIONS, ready.prepared, ready.plan, talk=talk)
    except TrackingError as error:
        raise advised(error, folder) from error
    return _result(folder, outcome, model_id)
