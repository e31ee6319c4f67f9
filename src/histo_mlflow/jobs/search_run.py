"""One training of a study: the ordinary epochs as a child run, with no way to the test split.

Checkpoints, journal and resuming are those of `train`. There is no model to log, no picture and
nothing to judge on the test split, so that what is not training costs little. Whatever ends the
process, the same call goes on where it was, in the same run; one that came to its end returns at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from histo_mlflow.device import DevicePlan
from histo_mlflow.errors import OutOfMemoryError, ResumeError
from histo_mlflow.jobs._search_outcome import (
    SearchResult,
    TagsOf,
    deliver_outcome,
    result_of,
    write_outcome,
)
from histo_mlflow.jobs._trial_note import note_of, read_note, refuse_other_data, write_note
from histo_mlflow.jobs.closing import closing_if_left, note_ending
from histo_mlflow.jobs.development import Development
from histo_mlflow.jobs.epochs import CheckpointPolicy, Epochs, GoOn
from histo_mlflow.jobs.opening import Child, found_or_begun
from histo_mlflow.jobs.ready import code_folder, refuse_several_processes
from histo_mlflow.jobs.resume import begun_recipe, machine, other_machine, refuse_other_recipe
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder, locked
from histo_mlflow.jobs.signals import Ending as SignalEnding
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.trainable import get_trainable, run_tags, settle, weights_tags
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.lifecycle import SETTLED, run_of_key
from histo_mlflow.tracking.provenance import Provenance, collect
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import Store
from histo_mlflow.training.memory import is_out_of_memory

__all__ = ["SearchResult", "TagsOf", "search_run"]


def search_run(
    recipe: Recipe,
    development: Development,
    *,
    store: Store,
    experiment: str,
    run_name: str,
    runs_dir: str | Path,
    child: Child,
    signals: SignalEnding,
    checkpoints: CheckpointPolicy | None = None,
    go_on: GoOn = lambda epoch, value: True,
    held: Callable[[], None] = lambda: None,
    tags_of: TagsOf = lambda came_out: {},
    predictions: bool = False,
    talk: Talk | None = None,
) -> SearchResult:
    """Train a recipe on development images as a child run, or go on with one that was begun.

    Args:
        recipe: what to do; its monitor gives the value. Its params are the run's, but for those
            that the child says may differ: there the run keeps what it was begun with.
        development: on which images.
        store: where the run is, or is made.
        experiment: name of its experiment.
        run_name: of a new run.
        runs_dir: its local files go to a folder of its id in here.
        child: of which run it is a child, the key that finds it again, its tags and the plan.
        signals: of the process; an interruption waits for what must stay whole.
        checkpoints: how often to save within an epoch.
        go_on: (epoch from 1, value or None) -> whether to train the next epoch. Asked after every
            epoch once it is saved; after a kill first for every epoch of the history once more, of
            which only the last answer holds: the others are trained already. False ends the run as
            pruned, unless it has come to its own end with that epoch.
        held: is called before anything is written of an epoch; raises TakenOverError where another
            process has the run by now, which is then left as it is.
        tags_of: what came out -> tags; they are set by the request that closes the run, and kept in
            its folder for when the store does not listen. Told of errors too, but not of
            interruptions.
        predictions: also keep the float32 predictions of the val images at the best epoch, as
            `val_predictions.parquet`.
        talk: says what happens.

    Raises:
        HistoMlflowError: the recipe cannot be trained, or the run to go on with is another one.
        OutOfMemoryError: memory ran out with the smallest portions.
        NotANumberError: a loss, weight or logit stopped being a number.
        TrainingError: no epoch had a defined value of the monitored metric.
        TrackingError: the store failed; of a training that was done nothing is lost.
        Interrupted: the state is saved and the run closed as KILLED.
    """
    # How to go on with a trial is the study's to say.
    talk = talk or Talk()
    talk = replace(talk, muted=talk.muted | {"saved"})
    refuse_several_processes()
    with ExitStack() as stack:
        known = _known(store, experiment, child.key, Path(runs_dir))
        if known is not None:
            stack.enter_context(locked(known))
            if (done := _finished(known, recipe, development, child)) is not None:
                child.begun(done.run_id)
                return done
            recipe = begun_recipe(known)  # its checkpoints know it by that
        facts = None if known is None else known.facts()
        plan = settle(recipe, decided=child.plan if facts is None else facts.plan)
        if facts is not None and (told := other_machine(facts.machine, machine(plan))):
            talk.say("WARN", told)
        with signals.whole():  # until there is somebody to close what is made here
            folder, facts, made = found_or_begun(
                store, recipe, plan, known, facts, experiment, run_name, Path(runs_dir), child
            )
            with closing_if_left(store, made, folder):
                if known is None:
                    stack.enter_context(locked(folder))
                run = _started(store, recipe, development, plan, folder, facts, child)
            stack.enter_context(run)
            stack.push(lambda _, error, __: note_ending(folder, error))
            stack.push(lambda _, error, __: _tag_failed(run, error, tags_of))
        outcome = folder.outcome()
        if outcome is None or outcome["ending"] not in SETTLED:
            folder.write_outcome(None)

            def trained() -> dict[str, Any]:
                ready = get_trainable(recipe, development, plan, talk=talk)
                run.tag_at_end(weights_tags(ready.weights))
                policy = checkpoints or CheckpointPolicy()
                epochs = Epochs(
                    run, ready, folder, policy, signals, talk=talk, go_on=go_on, held=held
                )
                epochs.train()
                return write_outcome(run, folder, tags_of, ready, epochs, predictions=predictions)

            outcome = _in_what_fits(trained)
        deliver_outcome(run, folder, outcome)
    return result_of(folder, outcome)


def _known(store: Store, experiment: str, key: str, runs_dir: Path) -> RunFolder | None:
    """The folder of the run that has the key; None where there is no such run, or no folder yet."""
    found = run_of_key(store, experiment, key)
    folder = None if found is None else RunFolder(runs_dir / str(found.info.run_id))
    return folder if folder is not None and folder.facts() is not None else None


def _finished(
    folder: RunFolder, recipe: Recipe, development: Development, child: Child
) -> SearchResult | None:
    """What came of a trial that is settled, here and in the store.

    Raises:
        ResumeError: it is another trial, or can no longer be gone on with.
    """
    refuse_other_recipe(folder, recipe, may_differ=child.may_differ)
    note = read_note(folder)
    if note is not None:
        refuse_other_data(folder, note, development)
    folder.remove_leftovers()
    outcome = folder.outcome()
    if outcome is not None and outcome["ending"] in SETTLED:
        return result_of(folder, outcome) if "ended" in folder.delivered() else None
    if note is not None and note.dropped:
        raise ResumeError(
            f"the trial in {folder.path} cannot be gone on with: it had not come to its end when "
            "its checkpoints were removed"
        )
    return None


def _started(
    store: Store,
    recipe: Recipe,
    development: Development,
    plan: DevicePlan,
    folder: RunFolder,
    facts: RunFacts,
    child: Child,
) -> TrackedRun:
    if not folder.trial.exists():
        write_note(folder, note_of(development))
    child.begun(str(facts.run_id))
    return start_run(
        store,
        facts.experiment,
        None,
        recipe.flatten(),
        run_tags(recipe, development, plan, _provenance()) | child.all_tags(),
        run_id=facts.run_id,
        system_metrics=False,
        journal_path=folder.journal,
        may_differ=child.may_differ,
    )


@cache
def _provenance() -> Provenance:
    """Of this process, whose code stays what it was when it was imported; git takes a while."""
    return collect(code_folder(), sys.argv)


def _in_what_fits(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `call` returns; memory that ran out where no smaller portions help is named.

    Raises:
        OutOfMemoryError: outside the handler, whose traceback would keep the tensors alive.
    """
    try:
        return call()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise OutOfMemoryError(
        f"out of memory ({told}): take a smaller image_px, a smaller model or precision=bf16"
    )


def _tag_failed(run: TrackedRun, error: BaseException | None, tags_of: TagsOf) -> None:
    if isinstance(error, Exception):
        run.tag_at_end(tags_of(error))
