"""What ends a study besides its own end."""

from __future__ import annotations

from dataclasses import dataclass

from histo_mlflow.tuning.shared.queue import Queue


@dataclass(frozen=True)
class Limits:
    """What ends a study besides its own end.

    Attributes:
        retries: how often a trial of a dead worker is taken up again.
        wall_seconds: no trial is begun after so long at work in all; None for no limit.
    """

    retries: int
    wall_seconds: float | None


def time_is_up(queue: Queue, limits: Limits) -> bool:
    """Whether no further trial is to be begun."""
    return limits.wall_seconds is not None and queue.active_seconds() >= limits.wall_seconds
