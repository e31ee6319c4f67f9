"""What a finished training has to tell the store, told once, however often it is tried."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow.errors import HistoMlflowError, ResumeError, TrackingError
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder, locked
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry import log_model
from histo_mlflow.tracking.delivery import deliver as deliver_journal
from histo_mlflow.tracking.lifecycle import WHOLE, close_run
from histo_mlflow.tracking.redaction import REDACTED
from histo_mlflow.tracking.run import TrackedRun, start_run
from histo_mlflow.tracking.store import connect

FLUSH_SECONDS = 30.0
MODEL_SECONDS = 600.0
"""The longest wait for the store to take the model."""
JOURNAL_SECONDS = 600.0


@dataclass(frozen=True)
class Synced:
    """What `runs sync` did."""

    run_id: str
    ending: str | None
    metric_points: int
    model_id: str | None


def deliver(run: TrackedRun, folder: RunFolder, outcome: dict[str, Any], *, talk: Talk) -> str:
    """Give the store artifacts, metrics and model of a finished training; the model's id.

    What it has taken is noted in `delivery.json` and not sent again.

    Raises:
        TrackingError: the store did not take something; nothing is lost.
    """
    if "begin" not in folder.delivered():
        run.log_artifacts(folder.begin)
        folder.note_delivered("begin")
    if "results" not in folder.delivered():
        run.log_artifacts(folder.results)
        folder.note_delivered("results")
    # MLflow copies the metrics of the best epoch to the model, so they have to be there.
    run.flush(FLUSH_SECONDS)
    model_id = folder.delivered().get("model_id")
    if model_id is None:
        example = folder.example.read_bytes()
        step = int(outcome["result"]["best_epoch"])
        model_id = run.store.ask(
            "logging the model",
            lambda: log_model.log_once(run, folder.model, example, step=step),
            MODEL_SECONDS,
        )
        folder.note_delivered("model_id", model_id)
    talk.say("model", f"models:/{model_id}")
    return str(model_id)


def sync(path: Path, *, tracking_uri: str | None = None, talk: Talk) -> Synced:
    """Tell the store whatever it lacks of a run that no process is training.

    Args:
        path: the run's folder.
        tracking_uri: None: the store where the run was begun.
        talk: says what happens.

    Raises:
        ResumeError: the folder holds no run, or a process is at it.
        TrackingError: the store failed; it can be tried again.
    """
    folder = RunFolder(path)
    facts = folder.facts()
    if facts is None or facts.run_id is None:
        raise ResumeError(f"{path} holds no run: a folder with a run.json is expected")
    with locked(folder):
        store = connect(store_uri(facts, tracking_uri))
        outcome = folder.outcome()
        if outcome is None or outcome["ending"] not in WHOLE:
            delivery = deliver_journal(
                store, facts.run_id, folder.journal, timeout_s=JOURNAL_SECONDS
            )
            if outcome is not None:
                close_run(store, facts.run_id, outcome["ending"], outcome["cause"])
            ending = None if outcome is None else str(outcome["ending"])
            return Synced(facts.run_id, ending, delivery.sent, None)
        run = start_run(
            store,
            facts.experiment,
            None,
            {},
            {},
            run_id=facts.run_id,
            follow_project=False,
            system_metrics=False,
            journal_path=folder.journal,
        )
        waiting = run.undelivered
        with run:
            model_id = deliver(run, folder, outcome, talk=talk)
            run.end(outcome["ending"])
        folder.note_delivered("ended")
        return Synced(facts.run_id, str(outcome["ending"]), waiting, model_id)


def store_uri(facts: RunFacts, given: str | None) -> str | None:
    """The store of a run that was begun: the one named now, else where it was begun."""
    if given is None and REDACTED not in facts.tracking_uri:
        return facts.tracking_uri
    return given


def advised(error: TrackingError, folder: RunFolder) -> HistoMlflowError:
    """The error, with what to do once the store is back."""
    if "runs sync" in str(error):
        return error
    return TrackingError(
        f"{error}; the training is done and nothing is lost: histo-mlflow runs sync {folder.path}"
    )
