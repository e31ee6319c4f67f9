"""What a finished training has to tell the store, told once, however often it is tried."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow import files
from histo_mlflow.errors import DiskError, HistoMlflowError, ParityError, ResumeError, TrackingError
from histo_mlflow.jobs.judge import EVALUATION
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder, locked
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry import log_model, parity
from histo_mlflow.registry.parity import Sample
from histo_mlflow.tracking.delivery import deliver as deliver_journal
from histo_mlflow.tracking.lifecycle import SETTLED, close_run, existing_run, is_closed
from histo_mlflow.tracking.redaction import REDACTED
from histo_mlflow.tracking.run import SYNC, TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import Store, connect

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
        ParityError: the model in the store did not say what the trained one says.
        TrackingError: the store did not take something; nothing is lost.
    """
    deliver_beginning(run, folder)
    deliver_results(run, folder)
    # MLflow copies the metrics of the best epoch to the model, so they have to be there.
    run.flush(FLUSH_SECONDS)
    model_id = folder.delivered().get("model_id")
    if model_id is None:
        example = folder.example.read_bytes()
        step = int(outcome["result"]["best_epoch"])
        sample = _sample(folder)
        with _full_told(folder.model), _taken_back_unless_equal(folder):
            model_id = run.store.ask(
                "logging the model",
                lambda: log_model.log_once(run, folder.model, example, sample=sample, step=step),
                MODEL_SECONDS,
            )
        folder.note_delivered("model_id", model_id)
    talk.say("model", f"models:/{model_id}")
    deliver_pictures(run, folder)
    return str(model_id)


def deliver_results(run: TrackedRun, folder: RunFolder) -> None:
    """Give the store the artifacts of a finished training, once; a study's trial has no others.

    Raises:
        TrackingError: the store did not take them; nothing is lost.
    """
    if "results" not in folder.delivered():
        with _full_told(folder.results):
            run.log_artifacts(folder.results)
        folder.note_delivered("results")


def _sample(folder: RunFolder) -> Sample | None:
    """What the logged model must agree with; None for a run of an earlier version, or of folds,
    each of whose models was asked by itself."""
    return parity.from_bytes(folder.parity.read_bytes()) if folder.parity.is_file() else None


@contextmanager
def _taken_back_unless_equal(folder: RunFolder) -> Iterator[None]:
    """Let a run end as failed whose model does not say in the store what it says here."""
    try:
        yield
    except ParityError as error:
        cause = f"{type(error).__name__}: {error}"
        folder.write_outcome({"ending": "failed", "cause": cause, "result": None})
        raise


def deliver_pictures(run: TrackedRun, folder: RunFolder) -> None:
    """Give the store the pictures of the evaluation, once; nothing where there are none.

    Raises:
        TrackingError: the store did not take them; nothing is lost.
    """
    if not folder.evaluation.is_dir() or EVALUATION in folder.delivered():
        return
    with _full_told(folder.evaluation):
        run.log_artifacts(folder.evaluation, EVALUATION)
    folder.note_delivered(EVALUATION)


def deliver_beginning(run: TrackedRun, folder: RunFolder) -> None:
    """Give the store the data set and the artifacts known before the first step, once.

    Nothing happens where a run ended before they were whole.

    Raises:
        TrackingError: the store did not take them; nothing is lost.
    """
    dataset = folder.dataset()
    if dataset is None or "begin" in folder.delivered():
        return
    with _full_told(folder.begin):
        run.log_dataset(**dataset)
        run.log_artifacts(folder.begin)
    folder.note_delivered("begin")


@contextmanager
def _full_told(sent: Path) -> Iterator[None]:
    """Name the folder of the store that has no room for what is sent, and the need."""
    try:
        yield
    except TrackingError as error:
        if (where := _full_at(error.__cause__)) is None:
            raise
        needed = sum(path.stat().st_size for path in sent.rglob("*") if path.is_file())
        try:
            with files.told(where, needed):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        except DiskError as told:
            raise TrackingError(str(told)) from error


def _full_at(cause: BaseException | None) -> Path | None:
    """Where the disk was full, if that is why copying failed."""
    if isinstance(cause, shutil.Error):  # of a whole tree: (from, to, why) of each file
        full = [to for _, to, why in cause.args[0] if os.strerror(errno.ENOSPC) in why]
        return Path(full[0]).parent if full else None
    if isinstance(cause, OSError) and files.is_full(cause):
        name = cause.filename2 or cause.filename
        return Path(name).parent if name else None
    return None


def sync(path: Path, *, tracking_uri: str | None = None, talk: Talk) -> Synced:
    """Tell the store whatever it lacks of a run that no process is training.

    Args:
        path: the run's folder.
        tracking_uri: None: the store where the run was begun.
        talk: says what happens.

    Raises:
        ResumeError: the folder holds no run, or a process is at it.
        TrackingError: the store failed; it can be tried again. Or it refused metric points, and has
            taken all the rest.
    """
    folder = RunFolder(path)
    facts = folder.facts()
    if facts is None or facts.run_id is None:
        raise ResumeError(f"{path} holds no run: a folder with a run.json is expected")
    with locked(folder):
        store = connect(store_uri(facts, tracking_uri))
        delivery = deliver_journal(store, facts.run_id, folder.journal, timeout_s=JOURNAL_SECONDS)
        outcome = folder.outcome()
        ending = None if outcome is None else outcome["ending"]
        model_id = None
        if outcome is None or ending not in SETTLED:
            _deliver_unfinished(store, facts.run_id, folder, outcome)
        elif "ended" not in folder.delivered():
            model_id = _deliver_finished(store, facts, folder, outcome, talk=talk)
        else:
            model_id = folder.delivered().get("model_id")
            if not is_closed(store, facts.run_id, outcome["ending"]):
                close_run(store, facts.run_id, outcome["ending"])
        if left := delivery.refused + delivery.waiting:
            raise TrackingError(
                f"{left:,} metric points of run {facts.run_id} were not delivered to "
                f"{store.shown_uri}: {delivery.reason or 'the store was too slow'}; they stay in "
                f"{folder.journal}, try again when that is mended"
            )
        return Synced(facts.run_id, ending, delivery.sent, model_id)


def _deliver_unfinished(
    store: Store, run_id: str, folder: RunFolder, outcome: Mapping[str, Any] | None
) -> None:
    """What is known of a run that can still be gone on with; its status, where it was left."""
    experiment_id = existing_run(store, run_id).info.experiment_id
    run = TrackedRun(store, run_id, experiment_id)
    try:
        deliver_beginning(run, folder)
    finally:
        run.let_go()
    if outcome is not None:
        close_run(store, run_id, outcome["ending"], outcome["cause"])


def _deliver_finished(
    store: Store, facts: RunFacts, folder: RunFolder, outcome: dict[str, Any], *, talk: Talk
) -> str | None:
    """All of a training that came to its own end; the model's id, which a trial has not."""
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
    with run:
        if folder.trial.exists():
            deliver_results(run, folder)
            model_id = None
            run.tag_at_end(outcome["tags"])
        else:
            model_id = deliver(run, folder, outcome, talk=talk)
        run.end(outcome["ending"])
    folder.note_delivered("ended")
    return model_id


def store_uri(facts: RunFacts, given: str | None) -> str | None:
    """The store of a run that was begun: the one named now, else where it was begun.

    Raises:
        ResumeError: its address held credentials, which were not noted, and none is named now.
    """
    if given is not None or REDACTED not in facts.tracking_uri:
        return given or facts.tracking_uri
    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        return named
    raise ResumeError(
        f"the run was begun at {facts.tracking_uri}, whose credentials are kept nowhere: give the "
        "address with --tracking-uri or MLFLOW_TRACKING_URI"
    )


def advised(error: TrackingError, folder: RunFolder) -> HistoMlflowError:
    """The error, with what to do once the store is back."""
    if SYNC in str(error):
        return error
    return TrackingError(
        f"{error}; the training is done and nothing is lost: {SYNC} {shlex.quote(str(folder.path))}"
    )
