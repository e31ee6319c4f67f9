"""Points that are laid out beforehand, one for each trial number: a grid, a quasi-random sequence.

Optuna's own samplers for the two choose a point by what is in the storage at the moment, so that
two workers who ask at once can get the same one. Here the trial's number is the point's, whoever
asks and whenever.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import numpy as np

from histo_mlflow.randomness import permutation
from histo_mlflow.tuning.study.space import (
    AnyAxis,
    CategoricalAxis,
    FloatAxis,
    Space,
    assignment,
    count,
    is_active,
    value_at,
)

LARGEST_GRID = 10_000


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of active axes, the last axis running fastest.

    Raises:
        ValueError: an axis that is continuous.
    """
    rows: list[dict[str, Any]] = [{}]
    for name, axis in space.items():
        values = [value_at(axis, position) for position in range(_counted(name, axis))]
        rows = [
            longer
            for row in rows
            for longer in (
                [{**row, name: value} for value in values] if is_active(axis, row) else [row]
            )
        ]
    return rows


def grid_size(space: Space) -> int:
    """How many points `grid` has; beyond `LARGEST_GRID` conditions are not looked at.

    Raises:
        ValueError: an axis that is continuous.
    """
    at_most = math.prod(_counted(name, axis) for name, axis in space.items())
    return at_most if at_most > LARGEST_GRID else len(grid(space))


def grid_point(space: Space, *, seed: int, number: int) -> dict[str, Any]:
    """The point of a trial; the order is shuffled by the seed, and begins anew after the last."""
    rows = grid(space)
    return rows[int(permutation(seed, 0, len(rows))[number % len(rows)])]


def quasi_random_point(
    space: Space, *, seed: int, number: int, kind: Literal["sobol", "halton"] = "sobol"
) -> dict[str, Any]:
    """The point of a trial in a scrambled sequence (Owen 1998), as `scipy.stats.qmc` makes it.

    Every axis has a coordinate, whether it is active or not, so that the active ones of all trials
    stay evenly spread.
    """
    row = _sequence(kind, len(space), seed, number)
    spread = dict(zip(space, row, strict=True))
    return assignment(space, lambda name, axis: _placed(axis, spread[name]))


@functools.lru_cache(maxsize=1)
def _sequence(kind: str, dimensions: int, seed: int, number: int) -> tuple[float, ...]:
    from scipy.stats import qmc

    engine = {"sobol": qmc.Sobol, "halton": qmc.Halton}[kind](dimensions, scramble=True, seed=seed)
    if number:
        engine.fast_forward(number)
    return tuple(float(value) for value in engine.random(1)[0])


def _placed(axis: AnyAxis, u: float) -> Any:
    """The value at a share u of an axis, u in [0, 1)."""
    values = count(axis)
    if isinstance(axis, CategoricalAxis) or (values is not None and not axis.log):
        return value_at(axis, int(u * (values or 1)))
    if isinstance(axis, FloatAxis):
        if not axis.log:
            return float(axis.low + u * (axis.high - axis.low))
        low, high = math.log(axis.low), math.log(axis.high)
        return float(np.clip(math.exp(low + u * (high - low)), axis.low, axis.high))
    # Every integer gets the share of the logarithmic scale from half below it to half above.
    low, high = math.log(axis.low - 0.5), math.log(axis.high + 0.5)
    return int(np.clip(round(math.exp(low + u * (high - low))), axis.low, axis.high))


def _counted(name: str, axis: AnyAxis) -> int:
    values = count(axis)
    if values is None:
        raise ValueError(f"{name} is continuous: a grid needs its step")
    return values
