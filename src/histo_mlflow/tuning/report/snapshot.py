"""A study at one moment: what runs, how the others ended, how long it will go on."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from histo_mlflow.tuning.report import trials_table
from histo_mlflow.tuning.report.summary import params_text
from histo_mlflow.tuning.report.trials_table import Direction
from histo_mlflow.tuning.shared import attributes


@dataclass(frozen=True)
class RunningTrial:
    """A trial that somebody works on.

    Attributes:
        number: of the trial.
        done: epochs (or folds) that it has reported.
        steps: how many it may have; None: not known.
        last: reported last.
        best: best of its reports.
        params: as a text.
        worker: who works on it.
    """

    number: int
    done: int
    steps: int | None
    last: float | None
    best: float | None
    params: str
    worker: str


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment.

    Attributes:
        study: its name.
        metric: what values are, such as "val/auc".
        step: what a report is of: epoch or fold.
        running: in order of number.
        counts: trials in each state.
        limit: how many trials there are to be; None: no limit.
        best: number and value of the best trial.
        used_seconds: how long anybody was at work on it.
        left_seconds: about how long it will go on; None: not known yet.
    """

    study: str
    metric: str
    step: str
    running: tuple[RunningTrial, ...]
    counts: Mapping[str, int]
    limit: int | None
    best: tuple[int, float] | None
    used_seconds: float
    left_seconds: float | None


def look(
    study: str,
    trials: Sequence[FrozenTrial],
    *,
    metric: str,
    direction: Direction,
    steps: int | None,
    limit: int | None,
    used_seconds: float,
    wall_seconds: float | None = None,
    workers: int = 1,
    step: str = "epoch",
    axes: Sequence[str] | None = None,
) -> Snapshot:
    """See how far a study is.

    Args:
        study: its name.
        trials: all of them.
        metric: what values are, such as "val/auc".
        direction: which way is better.
        steps: epochs (or folds) of a trial, unless it has an axis `epochs`; None: not known.
        limit: how many trials there are to be; None: no limit.
        used_seconds: how long anybody was at work on it.
        wall_seconds: how long that may be in all; None: no limit.
        workers: processes of this command; more may be seen to be at work.
        step: what a report is of: epoch or fold.
        axes: order of the params.
    """
    running = tuple(
        _running(one, direction, _steps(one, steps, step), axes)
        for one in sorted(trials, key=lambda one: one.number)
        if trials_table.state_of(one) == "running"
    )
    best = trials_table.best(trials, direction)
    value = None if best is None else trials_table.value_of(best)
    return Snapshot(
        study,
        metric,
        step,
        running,
        trials_table.counts(trials),
        limit,
        None if best is None or value is None else (best.number, value),
        used_seconds,
        seconds_left(
            trials,
            running,
            limit=limit,
            workers=workers,
            wall_left=None if wall_seconds is None else max(wall_seconds - used_seconds, 0.0),
        ),
    )


def seconds_left(
    trials: Sequence[FrozenTrial],
    running: Sequence[RunningTrial],
    *,
    limit: int | None,
    workers: int,
    wall_left: float | None,
) -> float | None:
    """About how long a study goes on; None while nothing tells.

    Trials to come cost what ended ones cost in the mean, pruned ones included; running ones the
    mean of a step times the steps they may still have. Both are shared by the workers, but no
    running trial is shared. A wall time is a bound from above.
    """
    ended = [one for one in trials if trials_table.ended(one)]
    known = [
        (float(one.user_attrs[attributes.SECONDS]), len(one.intermediate_values))
        for one in ended
        if attributes.SECONDS in one.user_attrs and one.intermediate_values
    ]
    if limit is None or not known:
        return wall_left
    seconds = sum(cost for cost, _ in known)
    a_step = seconds / sum(steps for _, steps in known)
    to_come = max(limit - len(ended) - len(running), 0)
    still = [a_step * max((one.steps or one.done) - one.done, 0) for one in running]
    at_work = max(workers, len(running), 1)
    total = to_come * seconds / len(known) + sum(still)
    found = max(total / at_work, *still, 0.0)
    return found if wall_left is None else min(found, wall_left)


def _running(
    one: FrozenTrial, direction: Direction, steps: int | None, axes: Sequence[str] | None
) -> RunningTrial:
    reports = [value for value in one.intermediate_values.values() if math.isfinite(value)]
    better = max if direction == "maximize" else min
    return RunningTrial(
        one.number,
        len(one.intermediate_values),
        steps,
        trials_table.last_of(one),
        better(reports) if reports else None,
        params_text(one.params, axes),
        _worker(one),
    )


def _steps(one: FrozenTrial, steps: int | None, step: str) -> int | None:
    own: Any = one.params.get("epochs") if step == "epoch" else None
    return int(own) if own is not None else steps


def _worker(one: FrozenTrial) -> str:
    """The process that works on it, with its machine if that is another one."""
    lease = json.loads(one.user_attrs.get(attributes.LEASE, "{}"))
    if "pid" not in lease:
        return ""
    here = lease.get("host") == socket.gethostname()
    return str(lease["pid"]) if here else f"{lease['pid']} on {lease.get('host')}"
