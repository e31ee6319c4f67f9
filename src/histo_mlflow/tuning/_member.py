"""One worker process as the command sees it: whether it lives, how it is ended, how it ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import psutil

from histo_mlflow.tuning._pulse import Watch, sign_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

KILL_SECONDS = 10.0
"""A killed process is gone within this time, unless the system itself waits for a disk."""
STOP_SECONDS = 25.0
"""A worker that was asked to end saves its trial within this time, or is killed."""
_OURS = "histo-mlflow: "
"""How a line begins by which a worker says why it ends."""
UNKNOWN = 255
"""The exit code that `multiprocessing` gives where it cannot know how a process ended."""


@dataclass(frozen=True)
class Death:
    """A worker process that is no more.

    Attributes:
        worker: its id.
        code: exit code; the negative number of the signal that killed it.
        said: why it ended, as it said itself; else the last line that it wrote.
        hung: it was killed because it gave no sign of life any more.
        blameless: its trial has no part in it: it said why it could not go on, or was asked to end.
    """

    worker: str
    code: int
    said: str
    hung: bool = False
    blameless: bool = False

    @property
    def why(self) -> str:
        """In a few words."""
        if self.hung:
            return "a worker hung and was killed"
        if self.code < 0:
            return f"a worker was killed by {signal.Signals(-self.code).name}"
        return self.said or f"a worker ended with exit code {self.code}"


class Member:
    """A worker process that was started.

    Args:
        worker: its id.
        place: of the team that it fills.
        process: just started.
        log: what it writes.
    """

    def __init__(self, worker: str, place: int, process: BaseProcess, log: Path) -> None:
        self.worker, self.place, self.process, self.log = worker, place, process, log
        self._hung = False
        # By process id and time of its start, and without the server that it was forked from:
        # `process` believes it dead when that one is gone.
        self._itself: psutil.Process | None = None
        with _gone_is_fine():
            self._itself = psutil.Process(process.pid)

    @property
    def lives(self) -> bool:
        """Whether it is still there."""
        if self._itself is None:
            return False
        try:
            return bool(self._itself.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def ask_to_end(self) -> None:
        """It saves its trial and ends."""
        if self._itself is not None:
            with _gone_is_fine():
                self._itself.terminate()

    def kill(self) -> None:
        """End it at once, if it lives."""
        if self._itself is not None:
            with _gone_is_fine():
                self._itself.kill()

    def kill_if_silent(self, watch: Watch) -> None:
        """It may hold the storage locked, so that nobody can write in it what it is at."""
        if watch.is_silent(sign_of(self.log)):
            self._hung = True
            self.kill()

    def death(self) -> Death:
        """What became of it; to be asked once, when it has ended."""
        self.process.join()
        code = int(self.process.exitcode or 0)
        if code == UNKNOWN:  # the server is gone, and this one may well live
            end([self])
            code = -signal.SIGKILL
        sign_of(self.log).unlink(missing_ok=True)
        lines: list[str] = []
        if self.log.is_file():
            lines = self.log.read_text("utf-8", errors="replace").strip().splitlines()
        if code <= 0:
            self.log.unlink(missing_ok=True)
        # What Python or torch say as they are taken apart may come behind it.
        told = [line for line in lines if line.startswith(_OURS)]
        said = (told or lines or [""])[-1].removeprefix(_OURS)
        hung = self._hung and code == -signal.SIGKILL
        # A bug ends it with a traceback and the same code, and its trial may have met it.
        return Death(self.worker, code, said, hung, blameless=code > 0 and bool(told))


def end(members: Sequence[Member]) -> None:
    """Ask all to save their trials and end; kill those that do not."""
    for member in members:
        member.ask_to_end()
    _wait_for(members, STOP_SECONDS)
    for member in members:
        member.kill()
    _wait_for(members, KILL_SECONDS)


def _wait_for(members: Sequence[Member], seconds: float) -> None:
    deadline = monotonic() + seconds
    while any(member.lives for member in members) and monotonic() < deadline:
        sleep(0.02)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """A process that is to be ended may have ended already."""
    try:
        yield
    except psutil.NoSuchProcess:
        return
