"""From points to the store: what it has of a run is asked, what it lacks is sent, each point once.

A point is known by its key and step. Its time is noted when it is logged, so a request that arrives
twice all the same (it was still under way when the store was asked) brings the same row twice, of
which the SQL stores behind MLflow keep one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.entries import chunks
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.tracking.outbox import (
    BATCH_POINTS,
    Handed,
    NotDeliveredError,
    Point,
    hand_over,
)
from histo_mlflow.tracking.store import Store, is_permanent, plain_reason, store_errors

UNDELIVERED_TAG = "histo.undelivered"
# With these codes it may be one point of the batch that is refused; others mean the run itself.
_OF_THE_POINT = frozenset({"INVALID_PARAMETER_VALUE", "INVALID_STATE"})


class Receiver:
    """The store's side of one run's metrics. For one thread.

    A key's history is asked for once and kept as long as every request with that key succeeds.
    After a failure nobody knows what arrived, and it is asked for again.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._held: dict[str, set[int]] = {}

    def forget(self) -> None:
        """Ask for every history anew, whatever was sent before."""
        self._held.clear()

    def missing(self, points: Sequence[Point]) -> list[Point]:
        """The points that the store does not have.

        Raises:
            NotDeliveredError: it could not be asked.
        """
        try:
            for key in dict.fromkeys(point.key for point in points):
                if key not in self._held:
                    history = self._store.client.get_metric_history(self._run_id, key)
                    self._held[key] = {entry.step for entry in history}
        except Exception as error:
            # On an answer that it does not know MLflow raises anything, a TypeError even.
            raise self._not_delivered(error) from error
        return [point for point in points if point.step not in self._held[point.key]]

    def send(self, points: Sequence[Point]) -> None:
        """Give the store points, in one request that is sent once.

        Raises:
            NotDeliveredError: it did not take them, or did not say so.
        """
        try:
            self._post(points)
        except Exception as error:
            for point in points:
                self._held.pop(point.key, None)
            raise self._not_delivered(error) from error
        for point in points:
            if point.key in self._held:
                self._held[point.key].add(point.step)

    def _post(self, points: Sequence[Point]) -> None:
        if self._store.is_server:
            rows = [
                {"key": p.key, "value": p.value, "timestamp": p.timestamp_ms, "step": p.step}
                for p in points
            ]
            self._store.post_once("runs/log-batch", {"run_id": self._run_id, "metrics": rows})
            return
        from mlflow.entities import Metric

        metrics = [Metric(p.key, p.value, p.timestamp_ms, p.step) for p in points]
        self._store.client.log_batch(self._run_id, metrics=metrics)

    def _not_delivered(self, error: Exception) -> NotDeliveredError:
        reason = plain_reason(error)
        if not is_permanent(error):
            return NotDeliveredError(reason, permanent=False)
        if getattr(error, "error_code", None) not in _OF_THE_POINT:
            return NotDeliveredError(reason, permanent=True, of_run=True)
        try:
            stage = self._store.client.get_run(self._run_id).info.lifecycle_stage
        except store_errors() as second:
            return NotDeliveredError(plain_reason(second), permanent=False)
        return NotDeliveredError(reason, permanent=True, of_run=stage != "active")


@dataclass(frozen=True)
class Delivery:
    """What became of a journal's points; `waiting` were not tried before the time was up."""

    sent: int
    already_there: int
    refused: int
    waiting: int
    reason: str | None = None
    """Why some were refused."""


def deliver(store: Store, run_id: str, journal_path: Path, *, timeout_s: float) -> Delivery:
    """Give the store the points of a journal that it does not have; can be done again at will.

    The run's tag `histo.undelivered` is brought up to date; its status stays as it is.

    Args:
        store: from `connect`.
        run_id: the run that the journal belongs to.
        journal_path: of a run that no process is writing.
        timeout_s: no request is begun after that; what is left then is counted as waiting.

    Raises:
        TrackingError: no such journal or run, or the store failed; the journal is as it was.
        DiskError: the journal cannot be read.
    """
    if not journal_path.is_file():
        raise TrackingError(f"there is no journal of metric points at {journal_path}")
    journal = Journal(journal_path)
    points = journal.points()
    journal.close()
    deadline = time.monotonic() + timeout_s
    found = store.ask(f"finding run {run_id}", lambda: store.client.get_run(run_id))
    if found.info.lifecycle_stage != "active":
        raise TrackingError(
            f"run {run_id} was deleted; restore it with `mlflow runs restore` and deliver again"
        )
    receiver = Receiver(store, run_id)
    handed, done = Handed(), 0
    for batch in chunks(points, BATCH_POINTS):
        if time.monotonic() >= deadline:
            break
        call = partial(hand_over, batch, receiver.send, receiver.missing, replay=True)
        left = max(1.0, deadline - time.monotonic())  # a slow server has a request for each key
        try:
            handed += store.ask(f"delivering to run {run_id}", call, left)
        except NotDeliveredError as error:
            raise TrackingError(
                f"delivering to run {run_id} at {store.shown_uri} failed: {error}; "
                f"{len(points) - done:,} of {len(points):,} metric points wait, try again"
            ) from error
        done += len(batch)
    delivery = Delivery(
        handed.sent, handed.already_there, handed.refused, len(points) - done, handed.reason
    )
    _correct_tag(store, run_id, found.data.tags.get(UNDELIVERED_TAG), delivery)
    return delivery


def _correct_tag(store: Store, run_id: str, tag: str | None, delivery: Delivery) -> None:
    undelivered = delivery.refused + delivery.waiting
    if tag is None or tag == str(undelivered):
        return
    if undelivered:
        store.ask(
            "correcting a tag",
            lambda: store.client.set_tag(run_id, UNDELIVERED_TAG, str(undelivered)),
        )
    else:
        store.ask("removing a tag", lambda: remove_tag(store, run_id, UNDELIVERED_TAG))


def remove_tag(store: Store, run_id: str, tag: str) -> None:
    """Remove a tag; one that is gone already is no error.

    Raises:
        Exception: one of `store_errors()`, for the caller's `Store.ask` to explain.
    """
    from mlflow.exceptions import MlflowException

    try:
        store.client.delete_tag(run_id, tag)
    except MlflowException as error:
        # MLflow sends a request again when the answer got lost, and is then told this.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
