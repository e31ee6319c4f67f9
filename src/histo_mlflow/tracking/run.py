"""One run: started or continued, logged to, and ended under one of five names.

    with start_run(connect(), "demo", "first", params, tags) as run:
        run.log_epoch(0, {"train/loss": 0.7})
        run.end("finished")

An epoch's metrics are queued and sent by a thread; everything else waits for the store, never
longer than a stated time. A run left by an exception is FAILED, or KILLED when it was interrupted.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, get_args

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.entries import (
    DIGEST_CHARACTERS,
    ENTRIES_PER_CALL,
    TAG_CHARACTERS,
    chunks,
    name,
    param_text,
    source_tags,
)
from histo_mlflow.tracking.outbox import NotDeliveredError, Outbox, Point
from histo_mlflow.tracking.redaction import redact
from histo_mlflow.tracking.store import (
    Store,
    connect,
    experiment_id,
    is_permanent,
    plain_reason,
    store_errors,
)
from histo_mlflow.tracking.system import SystemSampler

__all__ = ["ENDINGS", "Ending", "Store", "TrackedRun", "connect", "start_run"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

Ending = Literal["finished", "early_stopped", "pruned", "interrupted", "failed"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)
# "FINISHED" in MLflow is kept for runs that came to their own end.
_STATUS: dict[Ending, str] = {
    "finished": "FINISHED",
    "early_stopped": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
_WHOLE: frozenset[Ending] = frozenset({"finished", "early_stopped"})

ARTIFACT_SECONDS = 600.0
END_WHOLE_SECONDS = 30.0
END_BROKEN_SECONDS = 5.0


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
) -> "TrackedRun":
    """Start a run, or continue one.

    Under `mlflow run` a run already exists: its id comes in `MLFLOW_RUN_ID`. It is continued in the
    experiment where it lies, under the name it has, and the params that `mlflow run` logged from
    `-P` stay as they are, since a param can't be changed.

    Args:
        store: from `connect`.
        experiment: name; made if it is not there. Not used for a run that is continued.
        run_name: None lets MLflow make one up. Not used for a run that is continued.
        params: logged as text; more than 6,000 characters are cut, with the digest of the whole.
        tags: logged as text; `mlflow.parentRunId` makes it a child run.
        run_id: continue this run, whatever the environment says.
        follow_project: continue the run of `MLFLOW_RUN_ID` if there is one. False for every further
            run of the same process, such as a study's trials.
        system_metrics: sample processor, memory, disk, network and GPU in a thread.

    Raises:
        TrackingError: the run to continue is not in this store, or the store failed. A run that was
            made here is FAILED then.
    """
    continued = run_id or (os.environ.get("MLFLOW_RUN_ID") if follow_project else None)
    if continued:
        found = store.ask(f"continuing run {continued}", lambda: store.client.get_run(continued))
        if found.info.lifecycle_stage != "active":
            raise TrackingError(
                f"run {continued} was deleted; restore it with `mlflow runs restore`, or start a "
                "new run with MLFLOW_RUN_ID unset"
            )
        if found.info.status != "RUNNING":
            store.ask("resuming a run", lambda: store.client.update_run(continued, "RUNNING"))
        run = TrackedRun(store, continued, found.info.experiment_id, tuple(found.data.params))
    else:
        where = experiment_id(store, experiment)
        made = store.ask(
            "starting a run",
            lambda: store.client.create_run(where, tags=source_tags(), run_name=run_name),
        )
        run = TrackedRun(store, made.info.run_id, where)
    try:
        run.log_params(params)
        run.set_tags(tags)
    except BaseException as error:
        run._leave(error)
        raise
    if system_metrics:
        run.sample_system()
    return run


class TrackedRun:
    """A run that is being written. Made by `start_run`; used as a context manager.

    Not for several threads, but `log_epoch` and `log_metrics`, which may come from any.
    """

    def __init__(
        self, store: Store, run_id: str, experiment_id: str, known_params: Iterable[str] = ()
    ) -> None:
        self.store = store
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._known_params = set(known_params)
        self._outbox = Outbox(self._send)
        self._system = SystemSampler(lambda values, n: self._queue(values, n), Path.cwd())
        self._sampling = False
        self._ending: Ending | None = None

    @property
    def tracking_uri(self) -> str:
        """The address of the store, as MLflow takes it (it may hold credentials)."""
        return self.store.tracking_uri

    @property
    def url(self) -> str:
        """Where a person sees the run: an address, or the command that opens the pages."""
        page = f"/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        if self.store.tracking_uri.startswith("http"):
            return self.store.shown_uri.rstrip("/") + page
        return (
            f"mlflow ui --backend-store-uri {self.store.shown_uri}  ->  http://127.0.0.1:5000{page}"
        )

    @property
    def undelivered(self) -> int:
        """Metric points that the store has not taken yet, or never will."""
        return self._outbox.undelivered

    def sample_system(self) -> None:
        """Begin to log system metrics; a second call does nothing."""
        if not self._sampling:
            self._sampling = True
            self._system.start()

    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue one epoch's metrics and return at once, whatever the store does.

        NaN and infinity are left out: an undefined AUC has no point on its curve. Characters that
        MLflow does not take in a name (from a class, say) become `_`.
        """
        self._queue(metrics, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Queue metrics that belong to the whole run, such as `test/auc`. As `log_epoch`."""
        self._queue(metrics, step)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params that the run does not have yet; those it has stay as they are.

        Raises:
            TrackingError: the store refused or failed.
        """
        from mlflow.entities import Param

        new = {name(key): param_text(value) for key, value in params.items()}
        wanted = [Param(key, value) for key, value in new.items() if key not in self._known_params]
        for some in chunks(wanted, ENTRIES_PER_CALL):
            self._ask("logging params", partial(self._log_batch, params=some))
        self._known_params.update(new)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, replacing older values.

        Raises:
            TrackingError: the store refused or failed.
        """
        from mlflow.entities import RunTag

        all_tags = [RunTag(name(key), str(tags[key])[:TAG_CHARACTERS]) for key in tags]
        for some in chunks(all_tags, ENTRIES_PER_CALL):
            self._ask("setting tags", partial(self._log_batch, tags=some))

    def log_artifacts(self, folder: Path, artifact_path: str | None = None) -> None:
        """Upload the content of a folder, at most ten minutes.

        Raises:
            TrackingError: no such folder, or the store failed.
        """
        if not folder.is_dir():
            raise TrackingError(f"the folder of artifacts to log does not exist: {folder}")
        client = self.store.client
        self._ask(
            f"uploading {folder.name}/",
            lambda: client.log_artifacts(self.run_id, str(folder), artifact_path),
            ARTIFACT_SECONDS,
        )

    def log_dataset(
        self,
        title: str,
        digest: str,
        source: str,
        counts: Mapping[str, int],
        *,
        context: str = "training",
    ) -> None:
        """Log what was trained on as a dataset input of the run.

        Args:
            title: such as "ham10000".
            digest: hexadecimal; MLflow keeps 36 characters of it, the profile keeps all.
            source: where it came from, for a person.
            counts: images by split, or whatever numbers describe the set.
            context: MLflow's word for the use: "training", "eval".

        Raises:
            TrackingError: the store refused or failed.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=title[:500],
            digest=digest[:DIGEST_CHARACTERS],
            source_type="local",
            source=json.dumps({"uri": redact(source)}),
            profile=json.dumps({"digest": digest, **counts}),
        )
        entry = DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])
        client = self.store.client
        self._ask("logging the dataset", lambda: client.log_inputs(self.run_id, [entry]))

    def flush(self, timeout_s: float = 30.0) -> int:
        """Wait for the queued points to be sent, at most that long; how many still are not."""
        return self._outbox.flush(timeout_s)

    def end(self, ending: Ending, cause: str | None = None) -> None:
        """Send what is queued, then close the run. The first call counts, later ones do nothing.

        Args:
            ending: "finished" and "early_stopped" make it FINISHED, "pruned" and "interrupted"
                KILLED, "failed" FAILED; the word itself becomes the tag `histo.ending`.
            cause: one sentence, as the tag `histo.cause`.

        Raises:
            TrackingError: the run could not be closed; or it was whole, and is closed, but metric
                points never arrived (tag `histo.undelivered`).
        """
        if self._ending is not None:
            return
        whole = ending in _WHOLE
        patience = END_WHOLE_SECONDS if whole else END_BROKEN_SECONDS
        self._system.stop()
        undelivered = self._outbox.close(patience)
        self._ending = ending
        lost = self._lost_sentence(undelivered)
        try:
            self._ask(
                f"closing run {self.run_id}",
                lambda: self._close(ending, cause, undelivered),
                patience,
            )
        except TrackingError as error:
            raise TrackingError(f"{error}. The run still counts as running there{lost}") from error
        if undelivered and whole:
            raise TrackingError(f"run {self.run_id} is closed as {ending}{lost}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.end("finished")
        else:
            self._leave(error)

    def _leave(self, error: BaseException) -> None:
        """End because of an exception, which stays the one that is raised."""
        interrupted = isinstance(error, KeyboardInterrupt)
        cause = redact(f"{type(error).__name__}: {error}".rstrip(": "))
        try:
            self.end("interrupted" if interrupted else "failed", cause)
        except TrackingError as second:
            error.add_note(str(second))
            logger.warning("%s", second)

    def _close(self, ending: Ending, cause: str | None, undelivered: int) -> None:
        from mlflow.entities import RunTag

        tags: dict[str, str] = {"histo.ending": ending}
        if cause:
            tags["histo.cause"] = cause[:TAG_CHARACTERS]
        if undelivered:
            tags["histo.undelivered"] = str(undelivered)
        self._log_batch(tags=[RunTag(key, value) for key, value in tags.items()])
        self.store.client.set_terminated(self.run_id, _STATUS[ending])

    def _lost_sentence(self, undelivered: int) -> str:
        if not undelivered:
            return ""
        reason = self._outbox.reason or "the store was too slow"
        points = "1 metric point was" if undelivered == 1 else f"{undelivered:,} metric points were"
        return f", but {points} not delivered: {reason}"

    def _queue(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        values = {name(key): float(value) for key, value in metrics.items()}
        finite = [Point(k, v, now, step) for k, v in values.items() if math.isfinite(v)]
        self._outbox.put(finite)

    def _send(self, points: Sequence[Point]) -> None:
        """Deliver points; called by the outbox's thread."""
        from mlflow.entities import Metric

        metrics = [Metric(p.key, p.value, p.timestamp_ms, p.step) for p in points]
        try:
            self._log_batch(metrics=metrics)
        except store_errors() as error:
            reason = plain_reason(error)
            raise NotDeliveredError(reason, permanent=is_permanent(error)) from error

    def _log_batch(self, **entities: object) -> None:
        self.store.client.log_batch(self.run_id, **entities)  # type: ignore[arg-type]

    def _ask(self, doing: str, call: Callable[[], T], seconds: float = 60.0) -> T:
        return self.store.ask(doing, call, seconds)
