"""Giving back the trials of workers that died."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.shared._lease import Lease, Worker
from histo_mlflow.tuning.shared.stillness import Stillness

NO_LEASE_SECONDS = 10.0
"""How long a trial may run without a lease: its worker writes one at once, or died before it."""


@dataclass(frozen=True)
class Reaped:
    """A trial whose worker died.

    Args:
        number: of the trial.
        trial_id: in Optuna's storage.
        run_id: of its child run; None if it had none yet.
        worker: who had it; None if it died before it could say so.
        lives_lost: this one included.
        ending: `waiting` to be taken up again, or `failed` for good.
        cause: one sentence.
    """

    number: int
    trial_id: int
    run_id: str | None
    worker: Worker | None
    lives_lost: int
    ending: Literal["waiting", "failed"]
    cause: str


class Observer:
    """How long each lease has been seen unchanged, by this process's own clock.

    Args:
        grace_seconds: from when on a lease is stale.
        clock: seconds.
    """

    def __init__(self, grace_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_seconds = grace_seconds
        self._stillness = Stillness(clock)

    def is_stale(self, trial_id: int, lease: Lease | None) -> bool:
        """Look at a running trial's lease; whether it stood still for too long."""
        bound = self._grace_seconds if lease else min(NO_LEASE_SECONDS, self._grace_seconds)
        return self._stillness.is_still(trial_id, lease, bound)

    def forget(self, trial_ids: Collection[int]) -> None:
        """Keep nothing of trials that are not among these."""
        self._stillness.forget(trial_ids)


def give_back(
    storage: BaseStorage, seen: FrozenTrial, retries: int, *, free: bool = False
) -> Reaped | None:
    """Set the trial of a dead worker WAITING again, or FAIL after too many lost lives.

    Several may do this at once and be killed on the way: the lease goes first, so that a death is
    counted once. Between the look at the lease and the change of state somebody else may have given
    the trial back and a worker taken it; that one finds its trial WAITING at its next check and
    takes it back (`_lease.assert_held`).

    Args:
        seen: the trial with the lease that is stale.
        retries: how many lost lives are forgiven.
        free: no life is lost; the worker died of something else.

    Returns:
        None if it changed meanwhile.
    """
    trial_id = seen._trial_id
    lease = Lease.of(seen.user_attrs)
    trial = storage.get_trial(trial_id)
    if trial.state != optuna.trial.TrialState.RUNNING or Lease.of(trial.user_attrs) != lease:
        return None
    # One that died before it began has not been the trial's fault.
    costs = lease is not None and not free
    lives_lost = trial.user_attrs.get(attributes.LIVES_LOST, 0) + costs
    failed = costs and lives_lost > retries
    if lease is None:
        cause = "its worker died before it began"
    elif failed:
        times = f"{lives_lost} times" if lives_lost > 1 else "once"
        cause = f"its worker died {times}, the last was {lease.worker}"
    else:
        cause = f"its worker died: {lease.worker}"
    try:
        storage.set_trial_user_attr(trial_id, attributes.LEASE, None)
        storage.set_trial_user_attr(trial_id, attributes.LIVES_LOST, lives_lost)
        if failed:
            storage.set_trial_user_attr(trial_id, attributes.STATE, "failed")
            storage.set_trial_user_attr(trial_id, attributes.CAUSE, cause)
            storage.set_trial_state_values(trial_id, optuna.trial.TrialState.FAIL)
        else:
            storage.set_trial_state_values(trial_id, optuna.trial.TrialState.WAITING)
    except UpdateFinishedTrialError:
        return None
    return Reaped(
        number=trial.number,
        trial_id=trial_id,
        run_id=trial.user_attrs.get(attributes.RUN_ID),
        worker=lease.worker if lease else None,
        lives_lost=lives_lost,
        ending="failed" if failed else "waiting",
        cause=cause,
    )
