"""Who works on a trial: a note in the storage that its worker renews, and that ends when it stops.

Optuna's storages can compare and swap one thing, a trial's state from WAITING to RUNNING. All else
is agreed through the note: whoever took the trial last (`take`) holds it, and the others find that
out at their next look and let go of it. So two may work on a trial for one beat, but only one goes
on.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from histo_mlflow.errors import TakenOverError
from histo_mlflow.tuning.shared import attributes


class LostTrialError(TakenOverError):
    """Somebody else holds the trial now, or has ended it; who gets this has to let go of it."""


@dataclass(frozen=True)
class Worker:
    """A process that takes trials.

    Args:
        id: unique over machines and restarts.
        host: for people to read.
        pid: on that host.
    """

    id: str
    host: str
    pid: int

    @classmethod
    def here(cls) -> Worker:
        """This process; two calls are two workers."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(id=f"{host}-{pid}-{uuid.uuid4().hex[:8]}", host=host, pid=pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Lease:
    """`worker` holds a trial as the `take`-th that took it, and has said so `beat` times."""

    worker: Worker
    take: int
    beat: int

    @classmethod
    def of(cls, user_attrs: Mapping[str, Any]) -> Lease | None:
        """The lease among a trial's user attributes; None where nobody holds it."""
        text = user_attrs.get(attributes.LEASE)
        if text is None:
            return None
        found = json.loads(text)
        worker = Worker(id=found["worker"], host=found["host"], pid=found["pid"])
        return cls(worker=worker, take=found["take"], beat=found["beat"])

    def text(self) -> str:
        """JSON, as it is stored."""
        return json.dumps(
            {
                "worker": self.worker.id,
                "host": self.worker.host,
                "pid": self.worker.pid,
                "take": self.take,
                "beat": self.beat,
            }
        )

    def overtaken_by(self, other: Lease | None) -> Lease | None:
        """`other`, found in the storage, if it is a later one of another worker.

        An earlier one was written late, by a worker that does not know yet that it lost the trial.
        Of two with the same number the one in the storage holds.
        """
        if other is None or other.worker.id == self.worker.id or other.take < self.take:
            return None
        return other


def assert_held(storage: BaseStorage, trial_id: int, lease: Lease) -> FrozenTrial:
    """The trial as stored, if `lease` holds it; mends what others did to it by mistake.

    A reaper that was slow may have given the trial back although it was taken meanwhile. Where
    nobody has taken it since, it is taken back.

    Raises:
        LostTrialError: somebody else holds it, or it has ended.
    """
    trial = storage.get_trial(trial_id)
    found = Lease.of(trial.user_attrs)
    if trial.state.is_finished():
        raise LostTrialError(f"trial {trial.number} was ended by another process")
    if (later := lease.overtaken_by(found)) is not None:
        raise LostTrialError(
            f"trial {trial.number} is worked on by {later.worker}, which took it up while this "
            "process was silent for too long"
        )
    if trial.user_attrs.get(attributes.TAKES, 0) > lease.take:
        raise LostTrialError(f"trial {trial.number} was taken up by another process meanwhile")
    if trial.state == TrialState.WAITING and not storage.set_trial_state_values(
        trial_id, TrialState.RUNNING
    ):
        raise LostTrialError(f"trial {trial.number} was given back and taken by another process")
    if found is None or found.worker.id != lease.worker.id:
        storage.set_trial_user_attr(trial_id, attributes.LEASE, lease.text())
    return trial
