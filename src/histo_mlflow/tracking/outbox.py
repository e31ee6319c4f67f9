"""Metric points on their way to the store, sent by a thread of their own.

Training hands over a record and goes on at once. A point leaves the outbox when the store has taken
it; an outage keeps it here and it is tried again, more and more rarely. Whether the store has what
it never acknowledged is asked before that is sent again. MLflow's own asynchronous logging drops
points in an outage, hence this file. It knows nothing of MLflow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

BATCH_POINTS = 1000  # MLflow's limit for one request
# A refused connection every ten seconds costs nothing, and the store is soon found to be back.
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Point:
    """One value of one metric. `timestamp_ms` counts from the Unix epoch."""

    key: str
    value: float
    timestamp_ms: int
    step: int


Send = Callable[[Sequence[Point]], None]
Missing = Callable[[Sequence[Point]], Sequence[Point]]


class NotDeliveredError(Exception):
    """The store did not take a batch.

    `permanent` says that it never will: the points are counted as lost instead of tried again.
    `of_run` says that this is so for every point of the run, whatever it is.
    """

    def __init__(self, reason: str, *, permanent: bool, of_run: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
        self.of_run = of_run


@dataclass(frozen=True)
class Handed:
    """What became of points: sent now, there before, refused for good (and why)."""

    sent: int = 0
    already_there: int = 0
    refused: int = 0
    reason: str | None = None

    def __add__(self, other: Handed) -> Handed:
        return Handed(
            self.sent + other.sent,
            self.already_there + other.already_there,
            self.refused + other.refused,
            other.reason or self.reason,
        )


def hand_over(
    points: Sequence[Point], send: Send, missing: Missing | None, *, replay: bool
) -> Handed:
    """Send points; a batch that is refused is halved, so that one bad point costs only itself.

    Args:
        points: up to `BATCH_POINTS`.
        send: takes all of them or raises `NotDeliveredError`.
        missing: asks the store which of them it has not; None when it cannot be asked.
        replay: some may have arrived before, so ask first.

    Raises:
        NotDeliveredError: the store failed; some of the points may have arrived.
    """
    todo = missing(points) if replay and missing else points
    there = Handed(already_there=len(points) - len(todo))
    if not todo:
        return there
    try:
        send(todo)
    except NotDeliveredError as error:
        if not error.permanent:
            raise
        if error.of_run or len(todo) == 1:
            return there + Handed(refused=len(todo), reason=str(error))
        half = len(todo) // 2
        parts = (todo[:half], todo[half:])
        first, second = (hand_over(part, send, missing, replay=True) for part in parts)
        return there + first + second
    return there + Handed(sent=len(todo))


class Outbox:
    """A queue with one sender thread.

    Args:
        send: delivers up to `BATCH_POINTS` points or raises `NotDeliveredError`.
        missing: which of some points the store does not have, or `NotDeliveredError`; called before
            points that may be there are sent again. Without it they are sent as they are, and the
            store must take a point twice. Both are called by the sender thread alone.
        retry_seconds: pauses after the first, second, ... failure in a row; the last one repeats.
    """

    def __init__(
        self,
        send: Send,
        *,
        missing: Missing | None = None,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        self._send = send
        self._missing = missing
        self._retry_seconds = tuple(retry_seconds)
        self._changed = threading.Condition()
        self._waiting: list[Point] = []
        self._doubtful = 0  # so many at the front of the queue may have arrived already
        self._lost = 0
        self._reason: str | None = None
        self._hurried = 0  # how many callers wait in flush()
        self._closing = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="histo-mlflow outbox")
        self._thread.start()

    def put(self, points: Sequence[Point], *, replay: bool = False) -> None:
        """Hand points over; returns at once.

        Args:
            points: in the order in which they are to arrive.
            replay: the store may have them already, so it is asked before they are sent.

        Raises:
            RuntimeError: the outbox is closed.
        """
        with self._changed:
            if self._closing:
                raise RuntimeError("metrics were logged to a run that has ended")
            self._waiting.extend(points)
            if replay:
                self._doubtful = len(self._waiting)
            self._changed.notify_all()

    def put_again(self, points: Sequence[Point]) -> None:
        """Hand over points that were sent or refused before and are not in the store."""
        with self._changed:
            self._lost = 0
        self.put(points, replay=True)

    @property
    def waiting(self) -> int:
        """Points that wait."""
        with self._changed:
            return len(self._waiting)

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
                replay = self._doubtful > 0
            try:
                handed = hand_over(batch, self._send, self._missing, replay=replay)
            except NotDeliveredError as error:
                with self._changed:
                    self._reason = str(error)
                    self._doubtful = max(self._doubtful, len(batch))
                failures += 1
                self._pause(failures)
                continue
            failures = 0
            with self._changed:
                self._lost += handed.refused
                self._reason = handed.reason or self._reason
                self._doubtful = max(0, self._doubtful - len(batch))
                del self._waiting[: len(batch)]
                self._changed.notify_all()
