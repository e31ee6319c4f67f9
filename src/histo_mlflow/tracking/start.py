"""How a run is started or continued.

with start_run(connect(), "demo", "first", params, tags) as run:
    run.log_epoch(0, {"train/loss": 0.7})
    run.end("finished")
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from histo_mlflow.tracking.entries import named, param_text
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.tracking.lifecycle import KEY_TAG, find_or_make, refuse_other_params, reopen_run
from histo_mlflow.tracking.outbox import RETRY_SECONDS
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run


def start_run(
    store: Store,
    experiment: str,
    run_name: str | None,
    params: Mapping[str, object],
    tags: Mapping[str, object],
    *,
    run_id: str | None = None,
    follow_project: bool = True,
    system_metrics: bool = True,
    journal_path: Path | None = None,
    key: str | None = None,
    may_differ: Collection[str] = (),
    retry_seconds: Sequence[float] = RETRY_SECONDS,
) -> TrackedRun:
    """Start a run, or continue one.

    Under `mlflow run` a run already exists: its id comes in `MLFLOW_RUN_ID`. It is continued in the
    experiment where it lies, under the name it has, and the params that `mlflow run` logged from
    `-P` stay as they are, since a param can't be changed.

    A run that is continued is RUNNING again, without the tags of its earlier ending. What the
    journal holds and the store has not is sent in the background.

    Args:
        store: from `connect`.
        experiment: name; made if it is not there. Not used for a run that is continued by its id.
        run_name: None lets MLflow make one up. Not used for a run that is continued.
        params: logged as text; more than 6,000 characters are cut, with the digest of the whole.
        tags: logged as text; `mlflow.parentRunId` makes it a child run.
        run_id: continue this run, whatever the environment says.
        follow_project: continue the run of `MLFLOW_RUN_ID` if there is one. False for every further
            run of the same process, such as a study's trials.
        system_metrics: sample processor, memory, disk, network and GPU in a thread.
        journal_path: metric points are written and fsynced there before anything else; its folder
            must exist. None: they are kept in memory only.
        key: the run carries it as the tag `histo.key`, and one of this experiment that has it is
            continued, so that a process that was killed while it made its run makes no second.
        may_differ: params that a run which is continued may have with other values; it keeps its
            own.
        retry_seconds: pauses between attempts to deliver, in an outage.

    Raises:
        TrackingError: the run to continue is not in this store or has other params (it is left as
            it was), or the store failed. A run that was made here is FAILED then.
        DiskError: the journal cannot be opened; nothing was made or changed in the store.
    """
    journal = None if journal_path is None else Journal(journal_path)
    try:
        found, continued = find_or_make(
            store,
            experiment,
            run_name,
            run_id=run_id,
            follow_project=follow_project,
            key=key,
        )
        if continued:
            texts = {name: param_text(value) for name, value in named(params).items()}
            given = {name: text for name, text in texts.items() if name not in may_differ}
            refuse_other_params(found, given)
            reopen_run(store, found)
    except BaseException:
        if journal is not None:
            journal.close()
        raise
    run = TrackedRun(
        store,
        found.info.run_id,
        found.info.experiment_id,
        found.data.params,
        journal=journal,
        continued=continued,
        retry_seconds=retry_seconds,
    )
    try:
        run.log_params(params)
        run.set_tags(tags if key is None else {**tags, KEY_TAG: key})
        if system_metrics:
            run.sample_system(after=_last_sample(store, found, journal))
    except BaseException as error:
        run.leave(error)
        raise
    return run


def _last_sample(store: Store, found: Run, journal: Journal | None) -> int:
    """The number of the last system sample of a run; -1 before the first."""
    last = None if journal is None else journal.last_step("system/")
    known = next((key for key in found.data.metrics if key.startswith("system/")), None)
    if last is not None or known is None:
        return -1 if last is None else last
    run_id = found.info.run_id
    history = store.ask("continuing a run", lambda: store.client.get_metric_history(run_id, known))
    return max((entry.step for entry in history), default=-1)
