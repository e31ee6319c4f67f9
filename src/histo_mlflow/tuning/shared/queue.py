"""The budget of a study as a queue of slots that many processes take trials from.

A slot is a trial in Optuna's state WAITING; the next ones are made ahead, later ones as they are
needed. A worker takes the lowest one by setting it RUNNING, which every storage of Optuna lets only
one do; only then is it sampled. A trial whose worker died goes back to WAITING and is taken up
again as the same trial, with the same number and params. So totals hold over workers, restarts and
machines, and nothing is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, create_trial

from histo_mlflow.tuning.shared import _holding, _spans, attributes
from histo_mlflow.tuning.shared._counts import TO_OPTUNA, Counts, counted, ending_of
from histo_mlflow.tuning.shared._guesses import guesses_of, record
from histo_mlflow.tuning.shared._lease import Lease, LostTrialError, Worker
from histo_mlflow.tuning.shared._put_off import PutOff
from histo_mlflow.tuning.shared._reaper import Observer, Reaped, give_back
from histo_mlflow.tuning.shared.attributes import TrialState

__all__ = [
    "Counts",
    "Lease",
    "LostTrialError",
    "Queue",
    "Reaped",
    "Worker",
    "ending_of",
]

SLOTS_AHEAD = 32
"""Slots are made for so many trials that have not ended; a thousand of them make every look at the
study, also the pruner's after each epoch, take a tenth of a second."""
_WAITING = optuna.trial.TrialState.WAITING
_RUNNING = optuna.trial.TrialState.RUNNING


class Queue:
    """One study as one process sees it.

    Args:
        study: its sampler and pruner are those of the trials that are claimed.
        storage: the study's, as `open_storage` gives it.
        worker: this process.
        grace_seconds: how long a lease may stand still; several beats.
        beat_seconds: how often a worker renews its lease.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        worker: Worker,
        *,
        grace_seconds: float = 60.0,
        beat_seconds: float = 10.0,
    ) -> None:
        self._study = study
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._worker = worker
        self._beat_seconds = beat_seconds
        self._grace_seconds = grace_seconds
        self._observer = Observer(grace_seconds)
        self._held: dict[int, _holding.Holding] = {}
        self._put_off = PutOff()

    def fill(self, trials: int | None, guesses: Sequence[Mapping[str, Any]]) -> None:
        """Record how many trials there are to be, and make the next slots that are missing.

        Can be done again, by several at once and after a kill on the way. More than before adds
        slots; of fewer those above are never taken. What is beyond `SLOTS_AHEAD` is made by `claim`
        as it goes, since Optuna reads every open trial anew whenever it looks at a study.

        Args:
            trials: in all; None for no limit, where `claim` makes every slot.
            guesses: params to be tried first. Those that the study does not know yet go to the
                lowest slots that nobody took, where those that are not given any more are dropped;
                a value that is missing in one is sampled.
        """
        self._storage.set_study_user_attr(self._study_id, attributes.TRIALS, trials)
        present = self.trials()
        taken = {
            one.number
            for one in present
            if one.state != _WAITING or attributes.TAKES in one.user_attrs
        }
        record(self._storage, self._study_id, guesses, taken)
        slots = len(present)
        ended = sum(one.state.is_finished() for one in present)
        while trials is not None and slots < min(trials, ended + SLOTS_AHEAD):
            slots = self._storage.get_trial(self._new_slot()).number + 1

    def claim(self, before_sampling: Callable[[int], None] | None = None) -> optuna.Trial | None:
        """Take the lowest waiting trial below the limit; None if there is nothing to take now.

        Args:
            before_sampling: called with the trial's number before its params are sampled; may set
                the sampler of the study that was given.
        """
        limit = self.limit()
        present = self.trials()
        waiting = [
            one for one in present if one.state == _WAITING and self._put_off.is_due(one._trial_id)
        ]
        for trial in waiting:
            if (limit is None or trial.number < limit) and self._take(trial._trial_id):
                return self._begun(trial._trial_id, before_sampling)
        if limit is not None and len(present) >= limit:
            return None
        # No limit, or one beyond the slots that were made ahead.
        trial_id = self._new_slot()
        if limit is not None and self._storage.get_trial(trial_id).number >= limit:
            return None
        return self._begun(trial_id, before_sampling) if self._take(trial_id) else None

    def beating(self, trial: optuna.Trial) -> AbstractContextManager[None]:
        """While the block runs, a thread renews the trial's lease every few seconds.

        That the trial was lost is raised by the next `check`.
        """
        return _holding.beating(self._held[trial._trial_id], self._beat_seconds)

    def check(self, trial_id: int) -> None:
        """Whether the trial is still this process's.

        Raises:
            LostTrialError: somebody else holds it, or it has ended.
        """
        self._held[trial_id].check()

    def finish(
        self,
        trial_id: int,
        state: TrialState,
        value: float | None,
        *,
        cause: str | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """End a trial; once more does nothing.

        Args:
            state: how it ended; Optuna is told what `attributes.TrialState` says.
            value: the metric of a complete trial; None for any other.
            cause: one sentence: why it did not complete.
            attrs: further user attributes.

        Raises:
            LostTrialError: it is another's, or another ended it.
            ValueError: a complete trial without a number, or another one with a value.
        """
        if (state == "complete") != (value is not None and not math.isnan(value)):
            raise ValueError(f"a trial that ended as {state} cannot have the value {value}")
        holding = self._held[trial_id]
        with holding.lock:
            if holding.ended:
                return
            holding.check()
            named = {**(attrs or {}), attributes.STATE: state, attributes.CAUSE: cause}
            try:
                for name, one in named.items():
                    if one is not None:
                        self._storage.set_trial_user_attr(trial_id, name, one)
                holding.write_spans()
                self._storage.set_trial_state_values(
                    trial_id, TO_OPTUNA[state], None if value is None else [float(value)]
                )
            except UpdateFinishedTrialError as error:
                # Or it was this call, and the storage's answer to it got lost.
                if not self._ended_as(holding, state):
                    raise LostTrialError("the trial was ended by another process") from error
            holding.ended = True

    def give_back(self, trial_id: int) -> None:
        """Let go of a trial in good order, to be taken up again; no life is lost.

        Nothing happens if it is another's by now, or has ended.

        Raises:
            StudyError: the storage failed, also some seconds later.
        """
        self._held[trial_id].give_back()

    def put_off(self, trial_id: int, cause: Exception) -> None:
        """`give_back` of a trial that cannot be worked on here now; others are taken before it.

        Raises:
            StudyError: it has been so for too long, each time that this process took it.
        """
        self.give_back(trial_id)
        self._put_off.note(trial_id, cause)

    def let_go(self) -> None:
        """`give_back` of whatever this process still holds."""
        for trial_id, holding in self._held.items():
            if not holding.ended and holding.lost is None:
                self.give_back(trial_id)

    def reap(
        self, *, dead: Collection[str] = (), blameless: Collection[str] = (), retries: int
    ) -> list[Reaped]:
        """Give back the trials of workers that died; to be called every few seconds.

        Args:
            dead: ids of workers that are known to have ended; their trials are given back at once,
                all others' once their lease has stood still for the grace period.
            blameless: of the dead, those whose end costs their trials no life.
            retries: how many lost lives a trial is forgiven; with one more it fails.
        """
        running = [one for one in self.trials() if one.state == _RUNNING]
        self._observer.forget({one._trial_id for one in running})
        reaped = []
        for trial in running:
            lease = Lease.of(trial.user_attrs)
            if lease is not None and lease.worker.id == self._worker.id:
                continue
            is_dead = lease is not None and lease.worker.id in dead
            if is_dead or self._observer.is_stale(trial._trial_id, lease):
                free = lease is not None and lease.worker.id in blameless
                one = give_back(self._storage, trial, retries, free=free)
                reaped += [one] if one else []
        return reaped

    def counts(self) -> Counts:
        """How many trials ended in which way, run, and wait."""
        return counted(self.trials(), self.limit())

    def over(self) -> bool:
        """Whether no trial below the limit waits or runs; never so without a limit."""
        found = self.counts()
        return found.limit is not None and found.waiting == 0 and found.running == 0

    def active_seconds(self) -> float:
        """For how long anybody was at work on the study, up to the last sign of each."""
        spans = [span for one in self.trials() for span in _spans.spans_of(one.user_attrs)]
        return _spans.union_seconds(spans)

    def time_is_up(self) -> bool:
        """Whether the study has been worked on for as long as is allowed, by whoever said last.

        Then no further trial is to be begun.
        """
        found = self._storage.get_study_user_attrs(self._study_id).get(attributes.WALL_SECONDS)
        return found is not None and self.active_seconds() >= found

    def trials(self) -> list[FrozenTrial]:
        """All slots and trials, by number; not to be changed."""
        return sorted(
            self._storage.get_all_trials(self._study_id, deepcopy=False),
            key=lambda one: one.number,
        )

    def limit(self) -> int | None:
        """How many trials there are to be in all; None for no limit."""
        found: int | None = self._storage.get_study_user_attrs(self._study_id).get(
            attributes.TRIALS
        )
        return found

    def _new_slot(self) -> int:
        return self._storage.create_new_trial(self._study_id, create_trial(state=_WAITING))

    def _take(self, trial_id: int) -> bool:
        try:
            return self._storage.set_trial_state_values(trial_id, _RUNNING)
        except UpdateFinishedTrialError:
            return False  # somebody ended it by hand, with `optuna tell` or the like

    def _begun(
        self, trial_id: int, before_sampling: Callable[[int], None] | None
    ) -> optuna.Trial | None:
        try:
            holding = _holding.Holding.begin(
                self._storage, trial_id, self._worker, self._grace_seconds
            )
            trial = holding.check()
        except (LostTrialError, UpdateFinishedTrialError):
            return None
        self._held[trial_id] = holding
        guess = guesses_of(self._storage, self._study_id).get(trial.number)
        if guess is not None and not trial.params and "fixed_params" not in trial.system_attrs:
            # As `Study.enqueue_trial` does, which cannot be done twice without a second trial.
            self._storage.set_trial_system_attr(trial_id, "fixed_params", guess)
        if before_sampling is not None:
            before_sampling(trial.number)
        # A study keeps the trials that it has read until its own `ask` or `tell`, neither of which
        # is used here; samplers would learn nothing new.
        study = optuna.load_study(
            study_name=self._study.study_name,
            storage=self._storage,
            sampler=self._study.sampler,
            pruner=self._study.pruner,
        )
        return optuna.Trial(study, trial_id)

    def _ended_as(self, holding: _holding.Holding, state: TrialState) -> bool:
        trial = self._storage.get_trial(holding.trial_id)
        lease = Lease.of(trial.user_attrs)
        ours = lease is not None and lease.worker.id == self._worker.id
        return ours and ending_of(trial) == state == trial.user_attrs.get(attributes.STATE)
