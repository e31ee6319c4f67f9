"""Trials that something on this machine still has its hands on: left for a while, not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from histo_mlflow.errors import StudyError

PAUSE_SECONDS = 5.0
"""Before such a trial is taken again; others are taken meanwhile."""
PATIENCE_SECONDS = 600.0
"""How long that is borne."""


@dataclass(frozen=True)
class _Pause:
    since: float
    until: float


class PutOff:
    """The trials that this process could not work on, by its own clock.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pauses: dict[int, _Pause] = {}

    def is_due(self, trial_id: int) -> bool:
        """Whether a trial may be taken (again)."""
        pause = self._pauses.get(trial_id)
        return pause is None or pause.until <= self._clock()

    def note(self, trial_id: int, cause: Exception) -> None:
        """Leave a trial for a while.

        Raises:
            StudyError: it was so at every look for too long.
        """
        now = self._clock()
        since = self._pauses[trial_id].since if trial_id in self._pauses else now
        self._pauses[trial_id] = _Pause(since, now + PAUSE_SECONDS)
        if now - since >= PATIENCE_SECONDS:
            raise StudyError(f"{cause}; it has been so for {(now - since) / 60:.0f} minutes")
