"""A confirmation's winner: trained by one of the commands that confirm, the others wait for it.

Who trains it is agreed on as for a trial: a study of its own in the same storage has one slot, and
whoever takes it is its owner until it says no more. So it is taken up by another when its owner is
killed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import optuna

from histo_mlflow.errors import BusyError
from histo_mlflow.jobs.opening import Child
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.train import TrainResult, train
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.delivery import remove_tag
from histo_mlflow.tracking.lifecycle import (
    KEY_TAG,
    WHOLE,
    Ending,
    close_run,
    existing_run,
    run_of_key,
)
from histo_mlflow.tracking.store import Store
from histo_mlflow.tuning.machine_share import whole_machine
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import LostTrialError, Queue
from histo_mlflow.tuning.shared.storage import asked
from histo_mlflow.tuning.site import Site

if TYPE_CHECKING:
    from mlflow.entities import Run

LOOK_SECONDS = 1.0
"""Who waits looks again this often."""
RESULT = "histo.winner"
"""JSON, of the slot that ended: what came of the training, a `TrainResult`."""
_ALWAYS = sys.maxsize
"""Lives that the slot may lose: with each a command has ended, and the next one may do better."""


def train_winner(site: Site, recipe: Recipe, run_name: str, key: str) -> TrainResult:
    """An ordinary training, gone on with where it was begun: the first look at the test split.

    Of several commands one trains; the others wait and have its result. What the store says is
    finished is not trained again. One that was begun where this command has no files of it is begun
    anew, in a run of its own.

    Args:
        site: see there.
        recipe: the winner's.
        run_name: of the run, if it has to be made.
        key: finds the run; ends with the digest of the confirmation.

    Raises:
        HistoMlflowError: as `train`; another command may take it up.
        Interrupted: its state is saved; another command, or the same one again, goes on.
    """
    say = site.talk.say
    say("winner", f"{recipe.name} is trained as any recipe and judged on the test split")
    queue = _queue(site, f"{run_name} {key.rpartition('-')[2]}")
    told = False
    while True:
        counts = queue.counts()
        if not counts.running:
            if (done := _settled(site, queue, key)) is not None:
                say("winner", f"run {done.run_id} is finished")
                return done
            queue.fill(counts.ended + 1, ())  # a new slot, if the run of the last one is gone
            trial = queue.claim()
            if trial is not None:
                done = _trained(site, queue, trial, recipe, run_name, key)
                if done is not None:
                    return done
        elif not told:
            say("winner", "another command trains it: this one waits until it has ended")
            told = True
        for reaped in queue.reap(retries=_ALWAYS):
            say("winner", f"{reaped.cause}; the training will be taken up again")
        sleep(LOOK_SECONDS)


def _queue(site: Site, study_name: str) -> Queue:
    study = asked(
        f"opening the study {study_name}",
        lambda: optuna.create_study(
            storage=site.storage, study_name=study_name, load_if_exists=True
        ),
    )
    return site.queue(study)


def _trained(
    site: Site, queue: Queue, trial: optuna.Trial, recipe: Recipe, run_name: str, key: str
) -> TrainResult | None:
    """What came of it; None where another command has taken it up meanwhile."""
    done = None
    try:
        with queue.beating(trial):
            # It may have ended between the last look and the claim.
            while (done := _settled(site, queue, key)) is None:
                queue.check(trial._trial_id)
                try:
                    done = _train(site, trial, recipe, run_name, key)
                    break
                except BusyError:
                    # Who owned it before has its hands on the folder still, or `runs sync` has.
                    sleep(LOOK_SECONDS)
        facts = {name.RUN_ID: done.run_id, RESULT: json.dumps(done.to_dict())}
        # The value says nothing: Optuna wants a number of what is complete.
        queue.finish(trial._trial_id, "complete", 1.0, attrs=facts)
    except LostTrialError:
        return done  # where it is finished, it is so whoever has the slot
    except BaseException:
        queue.give_back(trial._trial_id)
        raise
    return done


def _train(site: Site, trial: optuna.Trial, recipe: Recipe, run_name: str, key: str) -> TrainResult:
    found = run_of_key(site.store, site.experiment, key)
    folder = None if found is None else RunFolder(site.runs_dir / str(found.info.run_id))
    known = folder is not None and folder.facts() is not None
    if found is not None and not known and found.data.params:
        _set_aside(site.store, str(found.info.run_id))
    return train(
        recipe,
        tracking_uri=site.store.tracking_uri,
        experiment=site.experiment,
        run_name=run_name,
        runs_dir=site.runs_dir,
        run_dir=folder.path if folder is not None and known else None,
        child=Child(
            parent=site.parent.run_id,
            key=key,
            tags={"histo.study": site.title, "histo.study.kind": "winner"},
            plan=whole_machine(site.definition.base(), site.plan),
            begun=lambda run_id: trial.set_user_attr(name.RUN_ID, run_id),
            may_differ=site.definition.elsewhere,
        ),
        talk=site.talk,
    )


def _set_aside(store: Store, run_id: str) -> None:
    """Close a run that was begun on another machine, or in another runs folder.

    It cannot be gone on with from here: the points of two trainings would mix, and the folder of
    the images may be named otherwise. Without the key it is not found again.
    """
    close_run(store, run_id, "failed", "its owner is gone: the winner is trained anew, elsewhere")
    store.ask("setting a run aside", lambda: remove_tag(store, run_id, KEY_TAG))


def _settled(site: Site, queue: Queue, key: str) -> TrainResult | None:
    """What came of the training if the store says that it is finished; None while it does not."""
    run = run_of_key(site.store, site.experiment, key)
    ending = None if run is None else run.data.tags.get("histo.ending")
    if run is None or run.info.status != "FINISHED" or ending not in WHOLE:
        return None
    run_id = str(run.info.run_id)
    for slot in queue.trials():
        found: dict[str, Any] = json.loads(slot.user_attrs.get(RESULT, "{}"))
        if found.get("run_id") == run_id:
            return TrainResult(**{**found, "run_dir": Path(found["run_dir"])})
    here = RunFolder(site.runs_dir / run_id)
    if here.facts() is not None:
        return None  # `train` finds it done there, or delivers what is left
    return _from_store(site.store, run, ending, here.path)


def _from_store(store: Store, run: Run, ending: Ending, run_dir: Path) -> TrainResult:
    """What the store knows of a finished training that was made on another machine."""
    run_id, metrics = run.info.run_id, run.data.metrics
    outputs = existing_run(store, run_id).outputs  # a search for runs leaves them out
    epochs = store.ask(
        f"looking at run {run_id}",
        lambda: store.client.get_metric_history(run_id, "epoch_seconds"),
    )
    models = [] if outputs is None else outputs.model_outputs
    tested = {key.removeprefix("test/"): v for key, v in metrics.items() if key.startswith("test/")}
    return TrainResult(
        run_id=str(run_id),
        ending=ending,
        best_epoch=int(metrics.get("best_epoch", 0)),
        epochs=max((point.step for point in epochs), default=0),
        seconds=sum(point.value for point in epochs),
        test=tested,
        model_id=str(models[-1].model_id) if models else "",
        run_dir=run_dir,
    )
