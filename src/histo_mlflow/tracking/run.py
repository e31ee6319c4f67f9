"""A run that is being written: logged to, and ended under one of five names.

A metric point is written to the run's journal and sent by a thread; everything else waits for the
store, never longer than a stated time. A run left by an exception is FAILED, or KILLED when it was
interrupted.
"""

import json
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from histo_mlflow.errors import TakenOverError, TrackingError
from histo_mlflow.tracking.delivery import Receiver
from histo_mlflow.tracking.entries import (
    DIGEST_CHARACTERS,
    ENTRIES_PER_CALL,
    TAG_CHARACTERS,
    chunks,
    named,
    param_text,
)
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.tracking.lifecycle import SETTLED, Ending, close_run
from histo_mlflow.tracking.outbox import RETRY_SECONDS, NotDeliveredError, Outbox, Point
from histo_mlflow.tracking.redaction import redact
from histo_mlflow.tracking.store import Store
from histo_mlflow.tracking.system import SystemSampler

T = TypeVar("T")

ARTIFACT_SECONDS = 600.0
END_WHOLE_SECONDS = 30.0
END_BROKEN_SECONDS = 5.0
SYNC = "histo-mlflow runs sync"
"""What delivers later what could not be delivered; a sentence that names it is complete."""


class TrackedRun:
    """A run that is being written. Made by `start.start_run`; used as a context manager.

    Not for several threads, but `log_epoch` and `log_metrics`, which may come from any.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        experiment_id: str,
        known_params: Iterable[str] = (),
        *,
        journal: Journal | None = None,
        continued: bool = False,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        self.store = store
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._known_params = set(known_params)
        self._journal = journal
        # Whatever this run logged in an earlier life may be in the store, also without a journal.
        self._replay = continued
        self._receiver = receiver = Receiver(store, run_id)
        self._outbox = Outbox(receiver.send, missing=receiver.missing, retry_seconds=retry_seconds)
        if journal is not None and (left := journal.points()):
            self._outbox.put(left, replay=True)
        self._system: SystemSampler | None = None
        self._stall_lock = threading.Lock()
        self._longest_stall_s = 0.0
        self._ending: Ending | None = None
        self._tags_at_end: dict[str, object] = {}

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

    @property
    def longest_stall_s(self) -> float:
        """The longest time, in seconds, that one call of `log_epoch` or `log_metrics` took."""
        with self._stall_lock:
            return self._longest_stall_s

    def sample_system(self, *, after: int = -1) -> None:
        """Begin to log system metrics, numbered from `after` + 1; a second call does nothing."""
        if self._system is None:
            self._system = SystemSampler(self._queue, Path.cwd(), first=after + 1)
            self._system.start()

    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take over one epoch's metrics and return, whatever the store does.

        It costs a write to the journal and the disk's word that it is safe. A point whose name and
        step the journal holds is not written again: the first one stays.

        NaN and infinity are left out: an undefined AUC has no point on its curve. Characters that
        MLflow does not take in a name (from a class, say) become `_`.

        Raises:
            DiskError: the journal cannot be written.
        """
        self._timed(metrics, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Take over metrics of the whole run, such as `test/auc`. As `log_epoch`."""
        self._timed(metrics, step)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params that the run does not have yet; those it has stay as they are.

        Raises:
            TrackingError: the store refused or failed.
        """
        from mlflow.entities import Param

        new = {key: param_text(value) for key, value in named(params).items()}
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

        all_tags = [RunTag(key, str(value)[:TAG_CHARACTERS]) for key, value in named(tags).items()]
        for some in chunks(all_tags, ENTRIES_PER_CALL):
            self._ask("setting tags", partial(self._log_batch, tags=some))

    def tag_at_end(self, tags: Mapping[str, object]) -> None:
        """Set tags with the request that closes the run, whichever way it is closed; at most 90."""
        self._tags_at_end.update(tags)

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

        Before a whole or pruned run is closed the store is asked for every point of the journal,
        and gets what it has not, whatever it said when it took them.

        Args:
            ending: "finished" and "early_stopped" make it FINISHED, "pruned" and "interrupted"
                KILLED, "failed" FAILED; the word itself becomes the tag `histo.ending`.
            cause: one sentence, as the tag `histo.cause`.

        Raises:
            TrackingError: the run could not be closed; or it was whole or pruned, and is closed,
                but metric points never arrived (tag `histo.undelivered`), or the store would not
                tell.
        """
        if self._ending is not None:
            return
        whole = ending in SETTLED
        patience = END_WHOLE_SECONDS if whole else END_BROKEN_SECONDS
        deadline = time.monotonic() + patience
        if self._system is not None:
            self._system.stop()
        # Who was interrupted waits once, not once for the points and again for the closing.
        undelivered = self._outbox.flush(patience if whole else patience / 2)
        doubt = None
        if whole and self._journal is not None and not self._outbox.waiting:
            undelivered, doubt = self._confirmed(self._journal.points(), undelivered, patience)
        self._outbox.close(0.0)
        if self._journal is not None:
            self._journal.close()
        self._ending = ending
        left = patience if whole else max(deadline - time.monotonic(), 1.0)
        try:
            close_run(
                self.store,
                self.run_id,
                ending,
                cause,
                undelivered=undelivered,
                tags=self._tags_at_end,
                seconds=left,
            )
        except TrackingError as error:
            lost = self._lost_phrase(undelivered, doubt)
            raise TrackingError(
                f"{error}, so it is not closed there{lost}{self._advice()}"
            ) from error
        if whole and (undelivered or doubt):
            raise TrackingError(self._left_over(undelivered, doubt))

    def let_go(self) -> None:
        """Write no more; in the store the run stays as open, or as ended, as it is."""
        if self._system is not None:
            self._system.stop()
        self._outbox.close(0.0)
        if self._journal is not None:
            self._journal.close()

    def _confirmed(
        self, points: Sequence[Point], undelivered: int, seconds: float
    ) -> tuple[int, str | None]:
        """How many points the store does not have after all, or why it could not be asked.

        A server that went back to an older copy of its database, or something before it that
        answered in its place, has said yes to points that are not there.
        """
        fresh = Receiver(self.store, self.run_id)
        try:
            missing = self._ask(
                "counting the metric points", lambda: fresh.missing(points), seconds
            )
        except (TrackingError, NotDeliveredError) as error:
            return undelivered, str(error)
        if not missing:
            return 0, None
        self._receiver.forget()  # its thread has nothing to do just now
        self._outbox.put_again(missing)
        return self._outbox.flush(seconds), None

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
            self.leave(error)

    def leave(self, error: BaseException) -> None:
        """End because of an exception, which stays the one that is raised.

        A run that another process writes by now is only let go of.
        """
        if isinstance(error, TakenOverError):
            self.let_go()
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        cause = redact(f"{type(error).__name__}: {error}".rstrip(": "))
        try:
            self.end("interrupted" if interrupted else "failed", cause)
            left_over = self._left_over(self.undelivered) if self.undelivered else None
        except TrackingError as second:
            left_over = str(second)
        if left_over and SYNC not in str(error):  # else it says already what to do
            error.add_note(left_over)

    def _left_over(self, undelivered: int, doubt: str | None = None) -> str:
        lost = self._lost_phrase(undelivered, doubt)
        return f"run {self.run_id} is closed as {self._ending}{lost}{self._advice()}"

    def _lost_phrase(self, undelivered: int, doubt: str | None) -> str:
        if doubt is not None:
            return f", and whether all metric points arrived is not known ({doubt})"
        if not undelivered:
            return ""
        reason = self._outbox.reason or "the store was too slow"
        points = "1 metric point was" if undelivered == 1 else f"{undelivered:,} metric points were"
        return f", and {points} not delivered ({reason})"

    def _advice(self) -> str:
        if self._journal is None:
            return ""
        folder = shlex.quote(str(self._journal.path.parent))
        return f"; nothing is lost: {SYNC} {folder}"

    def _timed(self, metrics: Mapping[str, float], step: int) -> None:
        start = time.perf_counter()
        try:
            self._queue(metrics, step)
        finally:
            seconds = time.perf_counter() - start
            with self._stall_lock:
                self._longest_stall_s = max(self._longest_stall_s, seconds)

    def _queue(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        values = {key: float(value) for key, value in named(metrics).items()}
        points = [Point(k, v, now, step) for k, v in values.items() if math.isfinite(v)]
        if self._journal is not None:
            points = self._journal.append(points)
        self._outbox.put(points, replay=self._replay)

    def _log_batch(self, **entities: object) -> None:
        self.store.client.log_batch(self.run_id, **entities)  # type: ignore[arg-type]

    def _ask(self, doing: str, call: Callable[[], T], seconds: float = 60.0) -> T:
        return self.store.ask(doing, call, seconds)
