"""What all figures of a study share: its facts, the range of its values, how a trial is marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.forest import NAMES
from histo_mlflow.tuning.report import trials_table
from histo_mlflow.tuning.report._axis import Axis, axes_of
from histo_mlflow.tuning.report.trials_table import Direction

Floats = npt.NDArray[np.float64]

GOOD = style.RED
"""Of the best trial, in every figure."""
BEST: dict[str, Any] = {
    "ms": 11,
    "mfc": "none",
    "mec": GOOD,
    "mew": 1.8,
    "ls": "none",
    "marker": "o",
}
_PAD = 0.06
_BEYOND_IQRS = 3.0


@dataclass(frozen=True)
class View:
    """A study to be drawn.

    Attributes:
        name: of the study.
        metric: as a person calls it, such as "val AUC".
        direction: which way is better.
        ended: trials in the order in which they ended.
        complete: those with a value, in order of number.
        best: the best of them, None without any.
        axes: all axes that any trial had.
        step: what a report is of: epoch or fold.
    """

    name: str
    metric: str
    direction: Direction
    ended: tuple[FrozenTrial, ...]
    complete: tuple[FrozenTrial, ...]
    best: FrozenTrial | None
    axes: tuple[Axis, ...]
    step: str

    @property
    def values(self) -> Floats:
        """Of the complete trials."""
        return np.array([one.value for one in self.complete], dtype=np.float64)

    @property
    def worse_edge(self) -> float:
        """Where trials without a value are marked: a share of an upright axis of values."""
        return 0.025 if self.direction == "maximize" else 0.975

    @property
    def facts(self) -> str:
        """The study, what is searched for, and how its trials ended."""
        better = "higher" if self.direction == "maximize" else "lower"
        found = trials_table.counts(self.ended)
        ends = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in found.items() if n)
        return (
            f"{style.shorten(self.name, 40)} · {self.metric}, {better} is better · "
            f"{style.count(len(self.ended), 'trial')}: {ends}"
        )


def view(
    name: str, trials: Sequence[FrozenTrial], direction: Direction, *, metric: str, step: str
) -> View:
    """Look at trials; those that wait or run are left out."""
    over = trials_table.in_order_of_ending(trials)
    complete = [one for one in over if trials_table.value_of(one) is not None]
    return View(
        name,
        called(metric),
        direction,
        tuple(over),
        tuple(sorted(complete, key=lambda one: one.number)),
        trials_table.best(over, direction),
        axes_of(sorted(over, key=lambda one: one.number)),
        step,
    )


def called(metric: str) -> str:
    """Call "val/auc" "val AUC", "val/loss" "val loss"."""
    split, _, name = metric.rpartition("/")
    return f"{split} {NAMES.get(name, name.replace('_', ' '))}".strip()


def figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """A figure of at least width x height inches that its heading fits into."""
    least = style.heading_pixels(title, subtitle) / style.DPI
    return style.figure(max(width, least), height, title, subtitle)


def value_range(values: Floats, direction: Direction) -> tuple[float, float]:
    """Ends of an axis of values; a few that are far worse than all others do not stretch it.

    The worse end is at most three interquartile ranges beyond the worse quartile (Tukey's outer
    fence: "Exploratory Data Analysis", 1977); the better end is the best value. NaN and infinity
    are not looked at; without any value it is 0 to 1.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    quarter, most = (float(one) for one in np.quantile(known, (0.25, 0.75)))
    fence = _BEYOND_IQRS * (most - quarter)
    if fence > 0 and direction == "maximize":
        low = max(low, quarter - fence)
    elif fence > 0:
        high = min(high, most + fence)
    pad = _PAD * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad


def within(value: float, limits: tuple[float, float]) -> tuple[float, str]:
    """Where a value is drawn, and its marker: an arrow at the edge for what lies beyond."""
    low, high = limits
    room = 0.02 * (high - low)
    if value < low:
        return low + room, "v"
    return (high - room, "^") if value > high else (value, "o")


def shades() -> Colormap:
    """From a blue that is still seen on white to a dark one."""
    return LinearSegmentedColormap.from_list("shades", ["#c6dbef", "#4292c6", "#08306b"])


def quality(shown: View) -> tuple[Normalize, Colormap]:
    """The colour of a value: the better, the darker."""
    low, high = value_range(shown.values, shown.direction)
    dark = shades() if shown.direction == "maximize" else shades().reversed()
    return Normalize(low, high, clip=True), dark


def bar(
    fig: Figure,
    where: Axes | list[Axes],
    norm: Normalize,
    shade: Colormap,
    said: str,
    *,
    whole: bool = False,
) -> None:
    """A colour bar at the right of some panels; `whole` numbers alone are written at it."""
    beside = fig.colorbar(
        ScalarMappable(norm, shade), ax=where, label=said, fraction=0.05, aspect=30
    )
    if whole:
        beside.locator = MaxNLocator(integer=True, nbins=8, min_n_ticks=1)
        beside.update_ticks()
    beside.outline.set_visible(False)


def known(value: float) -> bool:
    """Whether a number can be drawn."""
    return math.isfinite(value)
