"""How many trials of a study ended in which way, run, and wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.shared.attributes import TrialState

_FROM_OPTUNA: dict[optuna.trial.TrialState, TrialState] = {
    optuna.trial.TrialState.COMPLETE: "complete",
    optuna.trial.TrialState.PRUNED: "pruned",
    optuna.trial.TrialState.FAIL: "failed",
}
TO_OPTUNA: dict[TrialState, optuna.trial.TrialState] = {
    "complete": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
    "out_of_memory": optuna.trial.TrialState.PRUNED,
    "diverged": optuna.trial.TrialState.PRUNED,
}
"""What Optuna is told of each ending."""


@dataclass(frozen=True)
class Counts:
    """How many trials there are in each state; `limit` is how many there are to be, None for any.

    `waiting` counts what is still to be taken below the limit, also slots not made yet.
    """

    complete: int
    pruned: int
    failed: int
    out_of_memory: int
    diverged: int
    running: int
    waiting: int
    limit: int | None

    @property
    def ended(self) -> int:
        """How many have ended, in whatever way."""
        return self.complete + self.pruned + self.failed + self.out_of_memory + self.diverged


def ending_of(trial: FrozenTrial) -> TrialState | None:
    """How a trial ended; None if it has not.

    Optuna's own state decides, since another program may have ended the trial; the attribute only
    says which kind of PRUNED it is.
    """
    ending = _FROM_OPTUNA.get(trial.state)
    if ending != "pruned":
        return ending
    named: TrialState = trial.user_attrs.get(attributes.STATE, "pruned")
    return named if TO_OPTUNA.get(named) == trial.state else "pruned"


def counted(trials: Sequence[FrozenTrial], limit: int | None) -> Counts:
    """Counts over all trials of a study, of which those from number `limit` on are never taken."""
    endings = Counter(map(ending_of, trials))
    waiting = [trial for trial in trials if trial.state == optuna.trial.TrialState.WAITING]
    if limit is not None:
        to_be_taken = sum(trial.number < limit for trial in waiting)
        to_be_taken += max(0, limit - len(trials))
    else:
        to_be_taken = len(waiting)
    return Counts(
        complete=endings["complete"],
        pruned=endings["pruned"],
        failed=endings["failed"],
        out_of_memory=endings["out_of_memory"],
        diverged=endings["diverged"],
        running=endings[None] - len(waiting),
        waiting=to_be_taken,
        limit=limit,
    )
