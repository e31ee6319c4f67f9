"""An axis of a search space as figures need it: its scale, its ends, where a trial lies on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis as DrawnAxis
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from histo_mlflow.errors import StudyError
from histo_mlflow.evaluation import style

CHOICE_CHARACTERS = 14
_MARGIN = 0.04  # of the axis, so that no point stands on its edge


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: the recipe's field.
        scale: linear, log, or choices (places 0, 1, ...).
        low: its lower end; the first place of choices.
        high: its upper end; the last place of choices.
        choices: in the order of the study file; empty for a number.
        whole: only integers.
    """

    name: str
    scale: Literal["linear", "log", "choices"]
    low: float
    high: float
    choices: tuple[Any, ...] = ()
    whole: bool = False

    def at(self, params: Mapping[str, Any]) -> float:
        """Where a trial lies, in the axis' own units; NaN where the axis was not active."""
        if self.name not in params:
            return math.nan
        value = params[self.name]
        return float(self.choices.index(value)) if self.choices else float(value)

    def share(self, params: Mapping[str, Any]) -> float:
        """Where a trial lies between 0 (low) and 1 (high), on the axis' scale; NaN if nowhere."""
        return self.part(self.at(params))

    def part(self, at: float) -> float:
        """Where a number lies between 0 (low) and 1 (high); the middle where they are one."""
        if math.isnan(at):
            return math.nan
        if self.low == self.high:
            return 0.5
        if self.scale == "log":
            return math.log(at / self.low) / math.log(self.high / self.low)
        return (at - self.low) / (self.high - self.low)

    @property
    def labels(self) -> tuple[str, ...]:
        """The choices as texts."""
        return tuple(style.shorten(_text(choice), CHOICE_CHARACTERS) for choice in self.choices)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Round numbers from low to high, or the choices, with what is written there."""
        if self.choices:
            return list(zip(map(float, range(len(self.choices))), self.labels, strict=True))
        if self.scale == "log" and self.high / self.low >= 10:
            found = _decades(self.low, self.high, most)
        else:
            locator = MaxNLocator(nbins=max(most - 1, 1), integer=self.whole, min_n_ticks=2)
            found = list(locator.tick_values(self.low, self.high))
        slack = 1e-9 * (self.high - self.low)
        inside = [one for one in found if self.low - slack <= one <= self.high + slack]
        return [(float(one), number(one)) for one in inside or [self.low]]


def axis_of(name: str, distribution: BaseDistribution) -> Axis:
    """The axis that Optuna draws from a distribution.

    Raises:
        StudyError: it is none of Optuna's three.
    """
    if isinstance(distribution, CategoricalDistribution):
        last = len(distribution.choices) - 1
        return Axis(name, "choices", 0.0, float(last), tuple(distribution.choices))
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return Axis(
            name,
            "log" if distribution.log else "linear",
            float(distribution.low),
            float(distribution.high),
            whole=isinstance(distribution, IntDistribution),
        )
    raise StudyError(f"{name} should be a number or a choice, got {type(distribution).__name__}")


def axes_of(trials: Sequence[FrozenTrial]) -> tuple[Axis, ...]:
    """All axes that any of the trials had, as they first appear."""
    found: dict[str, Axis] = {}
    for trial in trials:
        for name in trial.params:
            if name not in found:
                found[name] = axis_of(name, trial.distributions[name])
    return tuple(found.values())


def dress(drawn: Axes, axis: Axis, along: Literal["x", "y"], *, most: int = 5) -> None:
    """Give one side of a panel the axis' scale, ends and ticks."""
    side: DrawnAxis = drawn.xaxis if along == "x" else drawn.yaxis
    if axis.scale == "log":
        (drawn.set_xscale if along == "x" else drawn.set_yscale)("log")
    low, high = _ends(axis)
    (drawn.set_xlim if along == "x" else drawn.set_ylim)(low, high)
    places, labels = zip(*axis.ticks(most), strict=True)
    side.set_ticks(places, labels)
    side.set_minor_locator(NullLocator())
    side.set_minor_formatter(NullFormatter())


def number(value: float) -> str:
    """A number in as few characters as tell it: 0.001, 1e-05, 32."""
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def _text(choice: Any) -> str:
    return number(choice) if isinstance(choice, float) else str(choice)


def _ends(axis: Axis) -> tuple[float, float]:
    """Where a panel begins and ends, so that its outermost points are whole."""
    if axis.scale == "log" and axis.low < axis.high:
        room = (axis.high / axis.low) ** _MARGIN
        return axis.low / room, axis.high * room
    if axis.scale == "log":
        return axis.low / 2, axis.high * 2
    if axis.choices:
        return axis.low - 0.5, axis.high + 0.5
    room = _MARGIN * (axis.high - axis.low) or 0.5
    return axis.low - room, axis.high + room


def _decades(low: float, high: float, most: int) -> list[float]:
    """1, 10, 100, ... or with 3 and 5 between them, whichever are not too many."""
    for parts in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        found = [
            one
            for one in LogLocator(base=10, subs=parts, numticks=99).tick_values(low, high)
            if low * (1 - 1e-9) <= one <= high * (1 + 1e-9)
        ]
        if 2 <= len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)] if found else [low]
