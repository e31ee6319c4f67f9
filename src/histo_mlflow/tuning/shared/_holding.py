"""Holding a trial: saying so every few seconds, and noticing when it is another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.shared import _spans, attributes
from histo_mlflow.tuning.shared._lease import Lease, LostTrialError, Worker, assert_held
from histo_mlflow.tuning.shared.every import every

GIVE_BACK_SECONDS = 10.0
"""A storage that failed is tried again for so long to give a trial back."""
_PAUSE_SECONDS = 0.5


@dataclass
class Holding:
    """A trial that this process took.

    Args:
        lease: as last written.
        spans: earlier ones of the trial, and at the end the one that goes on.
        grace_seconds: a longer silence was no work, such as that of a machine that was asleep.
        lost: why it is no longer held.
        ended: whether this process has ended it.
    """

    storage: BaseStorage
    trial_id: int
    lease: Lease
    spans: list[_spans.Span]
    grace_seconds: float
    lost: LostTrialError | None = None
    ended: bool = False
    # The beat and the trial's own thread write the same attributes.
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def begin(
        cls, storage: BaseStorage, trial_id: int, worker: Worker, grace_seconds: float
    ) -> Holding:
        """Write down that a trial which was just set RUNNING is held by `worker`."""
        attrs = storage.get_trial(trial_id).user_attrs
        before = Lease.of(attrs)
        take = max(attrs.get(attributes.TAKES, 0), before.take if before else 0) + 1
        lease = Lease(worker=worker, take=take, beat=0)
        # First the number: a life is lost with a lease, and so every lost one was counted as taken.
        storage.set_trial_user_attr(trial_id, attributes.TAKES, take)
        storage.set_trial_user_attr(trial_id, attributes.LEASE, lease.text())
        now = time.time()
        spans = [*_spans.spans_of(attrs), (now, now)]
        holding = cls(storage, trial_id, lease, spans, grace_seconds)
        holding.write_spans()
        return holding

    def check(self) -> FrozenTrial:
        """The trial as stored, if it is still held.

        Raises:
            LostTrialError: it is another's, or has ended.
        """
        with self.lock:
            if self.lost is None:
                try:
                    return assert_held(self.storage, self.trial_id, self.lease)
                except LostTrialError as error:
                    self.lost = error
            raise self.lost

    def beat(self) -> None:
        """`check`, and say so.

        Raises:
            LostTrialError: it is another's, or has ended.
        """
        with self.lock:
            self.check()
            self.lease = replace(self.lease, beat=self.lease.beat + 1)
            self.storage.set_trial_user_attr(self.trial_id, attributes.LEASE, self.lease.text())
            self.write_spans()

    def give_back(self) -> None:
        """See `Queue.give_back`; a storage that failed is tried again for some seconds.

        Who fails at it ends with the trial RUNNING, and may be taken for dead.

        Raises:
            StudyError: the storage failed, also then.
        """
        deadline = time.monotonic() + GIVE_BACK_SECONDS
        while True:
            try:
                return self._give_back()
            except StudyError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def _give_back(self) -> None:
        with self.lock:
            try:
                self.check()
                self.write_spans()
                self.storage.set_trial_user_attr(self.trial_id, attributes.LEASE, None)
                self.storage.set_trial_state_values(self.trial_id, TrialState.WAITING)
            except (LostTrialError, UpdateFinishedTrialError):
                return  # there is nothing to give back
            # From here on nobody holds it; the beat must not think otherwise. Before, where the
            # storage failed on the way, it is held still.
            self.lost = LostTrialError("the trial was given back by this process")

    def write_spans(self) -> None:
        """The last span reaches to now, or a new one begins after too long a silence."""
        (begin, end), now = self.spans[-1], time.time()
        if now - end > self.grace_seconds:
            self.spans.append((now, now))
        else:
            self.spans[-1] = (begin, max(begin, now))
        self.storage.set_trial_user_attr(self.trial_id, attributes.SPANS, _spans.text(self.spans))


@contextmanager
def beating(holding: Holding, beat_seconds: float) -> Iterator[None]:
    """A thread that beats until the block ends; of a trial that is another's by now, in vain."""

    def beat() -> None:
        # Of another's trial `holding.lost` tells the trial's own thread at its next `check`, and
        # where the storage is away it meets the same there and says so.
        with suppress(StudyError):
            holding.beat()

    with every(beat_seconds, beat, f"lease of trial {holding.trial_id}"):
        yield
