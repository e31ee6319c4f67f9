"""Metric points on their way to the store, sent by a thread of their own.

Training hands over a record and goes on at once. A point leaves the outbox when the store has taken
it; an outage keeps it here and it is tried again, more and more rarely. MLflow's own asynchronous
logging drops points in an outage, hence this file. It knows nothing of MLflow.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

BATCH_POINTS = 1000  # MLflow's limit for one request
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Point:
    """One value of one metric. `timestamp_ms` counts from the Unix epoch."""

    key: str
    value: float
    timestamp_ms: int
    step: int


class NotDeliveredError(Exception):
    """The store did not take a batch.

    `permanent` says that it never will: the points are counted as lost instead of tried again.
    """

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.permanent = permanent


class Outbox:
    """A queue with one sender thread.

    Args:
        send: delivers up to `BATCH_POINTS` points or raises `NotDeliveredError`. The same points
            may be sent twice when an answer got lost; the store must take that.
        retry_seconds: pauses after the first, second, ... failure in a row; the last one repeats.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Point]], None],
        *,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        self._send = send
        self._retry_seconds = tuple(retry_seconds)
        self._changed = threading.Condition()
        self._waiting: list[Point] = []
        self._lost = 0
        self._reason: str | None = None
        self._hurried = 0  # how many callers wait in flush()
        self._closing = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="histo-mlflow outbox")
        self._thread.start()

    def put(self, points: Sequence[Point]) -> None:
        """Hand points over; returns at once.

        Raises:
            RuntimeError: the outbox is closed.
        """
        with self._changed:
            if self._closing:
                raise RuntimeError("metrics were logged to a run that has ended")
            self._waiting.extend(points)
            self._changed.notify_all()

    @property
    def undelivered(self) -> int:
        """Points that wait or that the store refused for good."""
        with self._changed:
            return len(self._waiting) + self._lost

    @property
    def reason(self) -> str | None:
        """Why the latest failed delivery failed; None when none did."""
        with self._changed:
            return self._reason

    def flush(self, timeout_s: float) -> int:
        """Wait until every point is sent or given up, at most `timeout_s`.

        Returns:
            How many points are undelivered: still waiting, or refused for good.
        """
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            try:
                # A dead sender cannot empty the queue: look at it instead of waiting in vain.
                deadline = time.monotonic() + timeout_s
                while self._waiting and self._thread.is_alive():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(min(left, 0.5))
            finally:
                self._hurried -= 1
            return len(self._waiting) + self._lost

    def close(self, timeout_s: float) -> int:
        """Flush, then stop the sender; further `put` is a bug. Returns the undelivered points."""
        undelivered = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        return undelivered

    def _pause(self, failures: int) -> None:
        """Wait before the next attempt; someone waiting in flush() makes it at most a second."""
        pause = self._retry_seconds[min(failures, len(self._retry_seconds)) - 1]
        start = time.monotonic()
        with self._changed:
            while not self._closing:
                wait = pause if self._hurried == 0 else min(pause, self._retry_seconds[0])
                left = start + wait - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _work(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                batch = list(islice(self._waiting, BATCH_POINTS))
            try:
                self._send(batch)
            except NotDeliveredError as error:
                with self._changed:
                    self._reason = str(error)
                if not error.permanent:
                    failures += 1
                    self._pause(failures)
                    continue
                with self._changed:
                    self._lost += len(batch)
            failures = 0
            with self._changed:
                del self._waiting[: len(batch)]
                self._changed.notify_all()
