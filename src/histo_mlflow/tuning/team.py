"""The worker processes of one command: started, watched, started again when killed, ended.

Where the system can fork safely they come from a server process that has imported everything once,
so that a worker in the place of a killed one is at work within a second.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from histo_mlflow import files
from histo_mlflow.errors import StudyError
from histo_mlflow.tuning._member import Death, Member, end
from histo_mlflow.tuning._pulse import Watch, watching
from histo_mlflow.tuning.order import Order
from histo_mlflow.tuning.worker import main

__all__ = ["Death", "Team"]

FRUITLESS = 8
"""So many deaths in a row without an epoch between them, and no more workers are started."""
_IMPORTED = ("histo_mlflow.tuning._preloaded",)


@dataclass
class Team:
    """The worker processes of this command; one that gives no sign of life is killed.

    Attributes:
        size: how many there are to be.
        order: what all are told; `worker` is another for each, and so is the plan's device where
            there are several.
        devices: of the workers, in turn.
        logs: what each writes is kept in here until it ended well.
        program: what each runs with its order and the path of its log; None: `worker.main`.
    """

    size: int
    order: Order
    devices: Sequence[str]
    logs: Path
    program: Callable[[str, str], None] | None = None
    _members: list[Member] = field(default_factory=list)
    _fruitless: int = 0
    _progress: int = 0
    _watched: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start every worker."""
        files.make_folder(self.logs)
        for place in range(self.size):
            self._members.append(self._started(place))
        self._watched.enter_context(watching(self._kill_silent))

    def __len__(self) -> int:
        """How many are alive."""
        return len(self._members)

    def buried(self) -> list[Death]:
        """Workers that ended since the last call."""
        ended = [member for member in self._members if member.process.exitcode is not None]
        self._members = [member for member in self._members if member not in ended]
        return [member.death() for member in ended]

    def end(self, worker: str) -> None:
        """Kill a worker that is not heard of any more; nothing where it is none of this team."""
        for member in self._members:
            if member.worker == worker:
                member.kill()

    def refill(self, lost: int, *, progress: int) -> None:
        """Start workers in the place of some that were killed.

        Args:
            lost: how many.
            progress: of the study, in epochs; grows while anything comes of it.

        Raises:
            StudyError: worker after worker was killed and nothing came of any.
        """
        self._fruitless = self._fruitless + lost if progress <= self._progress else lost
        self._progress = max(progress, self._progress)
        if self._fruitless > FRUITLESS:
            raise StudyError(
                f"{self._fruitless} worker processes were killed one after the other before one "
                f"of them ended an epoch (is memory short with {self.size} at once?); what they "
                f"said is in {self.logs}"
            )
        taken = {member.place for member in self._members}
        free = [place for place in range(self.size) if place not in taken]
        for place in free[:lost]:
            self._members.append(self._started(place))

    def stop(self) -> list[Death]:
        """Ask all to save their trials and end; kill those that do not. Neither costs a life."""
        self._watched.close()
        asked = {member.worker for member in self._members if member.lives}
        end(self._members)
        ended, self._members = self._members, []
        deaths = [member.death() for member in ended]
        return [replace(one, blameless=one.blameless or one.worker in asked) for one in deaths]

    def _kill_silent(self, watch: Watch) -> None:
        for member in tuple(self._members):
            member.kill_if_silent(watch)

    def _started(self, place: int) -> Member:
        worker = uuid.uuid4().hex[:12]
        plan = {**self.order.plan, "device": self.devices[place % len(self.devices)]}
        order = replace(self.order, worker=worker, plan=plan, started_by=os.getpid())
        log = self.logs / f"worker-{worker}.log"
        process = _context().Process(
            target=self.program or main,
            args=(order.to_json(), str(log)),
            name=f"worker {worker}",
            daemon=True,
        )
        process.start()
        return Member(worker, place, process, log)


def _context() -> Any:
    """How processes are made: forked from a server that has the imports, or anew."""
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context
