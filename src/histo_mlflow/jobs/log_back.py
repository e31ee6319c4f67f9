"""Logging to a run that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from histo_mlflow.errors import TrackingError
from histo_mlflow.jobs.deliver import FLUSH_SECONDS, store_uri
from histo_mlflow.jobs.run_record import RunRecord
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.lifecycle import existing_run
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.store import connect


def log_to_run(
    record: RunRecord,
    folder: Path,
    artifact_path: str,
    metrics: Mapping[str, float],
    tracking_uri: str | None,
    *,
    talk: Talk,
) -> None:
    """Give a run's store files and metrics; files that it has under the same names are replaced.

    The run's status stays as it is. A table of predictions has no run, and nothing happens.

    Args:
        record: of the run.
        folder: its files are logged.
        artifact_path: where they go among the run's artifacts.
        metrics: logged at the step of the best epoch.
        tracking_uri: MLflow store; None: where the run was begun.
        talk: says what happens.

    Raises:
        TrackingError: the store did not take something.
    """
    if record.run_id is None:
        return
    facts = None if record.folder is None else record.folder.facts()
    uri = record.store_uri if facts is None else store_uri(facts, tracking_uri)
    store = connect(uri, make=False)
    known = existing_run(store, record.run_id)
    run = TrackedRun(store, known.info.run_id, known.info.experiment_id)
    try:
        run.log_metrics(metrics, step=_step(record, known.data.metrics))
        if left := run.flush(FLUSH_SECONDS):
            raise TrackingError(
                f"{left:,} metrics of run {record.run_id} were not taken by {store.shown_uri}: "
                "give the same command again when it answers"
            )
        run.log_artifacts(folder, artifact_path)
    finally:
        run.let_go()
    talk.say("logged", f"{artifact_path}/ of run {record.run_id} in {store.shown_uri}")


def _step(record: RunRecord, metrics: Mapping[str, float]) -> int:
    """The step at which what came of the run was logged: of the best epoch, or all folds."""
    outcome = None if record.folder is None else record.folder.outcome()
    if outcome is not None and outcome["result"] is not None:
        return int(outcome["result"]["best_epoch"])
    return int(metrics.get("best_epoch", 0))
