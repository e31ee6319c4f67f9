"""Figures over time: the values of a study as its trials ended, and of each trial as it went on."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from histo_mlflow.evaluation import style
from histo_mlflow.tuning.report import _figure_view, trials_table
from histo_mlflow.tuning.report._figure_view import BEST, GOOD, View, value_range, within

_FEW = 30
_BAD = {"failed": style.INK, "out_of_memory": style.PURPLE, "diverged": style.ORANGE}


def history(shown: View) -> Figure:
    """Draw every ended trial's value, or the last report of one without, and the best so far."""
    last = [trials_table.last_of(one) for one in shown.ended if _pruned(one)]
    all_values = np.array([*shown.values, *(one for one in last if one is not None)])
    limits = value_range(all_values, shown.direction)
    with style.styled():
        fig = _figure_view.figure(9.0, 3.9, "Search history", shown.facts)
        axes = fig.add_subplot()
        axes.set_ylim(limits)
        marks = {}
        for n, one in enumerate(shown.ended, start=1):
            marks.update(_trial(axes, n, one, limits, shown.worse_edge))
        axes.set(xlabel="trials that have ended", ylabel=shown.metric)
        axes.set_xlim(0.3, max(len(shown.ended), 2) + 0.7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
        style.grid(axes)
        handles = [*_best(axes, shown), *marks.values()]
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    return fig


def _trial(
    axes: Axes, n: int, one: FrozenTrial, limits: tuple[float, float], edge: float
) -> dict[str, Line2D]:
    """Mark a trial; the entry of the legend for its kind."""
    state, value = trials_table.state_of(one), trials_table.value_of(one)
    if value is not None:
        look: dict[str, Any] = {"color": style.BLUE, "ms": 6, "ls": "none"}
        y, marker = within(value, limits)
        said = "complete"
    elif _pruned(one) and (last := trials_table.last_of(one)) is not None and np.isfinite(last):
        look = {"mec": style.GREY, "mfc": "white", "ms": 5.5, "mew": 1.1, "ls": "none"}
        y, marker = within(last, limits)
        said = "pruned (its last report)"
    else:
        colour = _BAD.get(state, style.GREY)
        axes.plot(
            [n], [edge], "x", color=colour, ms=7, mew=1.8, clip_on=False,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
        said = f"{state.replace('_', ' ')} (no value)"
        return {
            said: Line2D([], [], color=colour, marker="x", ms=7, mew=1.8, ls="none", label=said)
        }
    axes.plot([n], [y], marker=marker, zorder=3, **look)
    entry = {said: Line2D([], [], marker="o", label=said, **look)}
    if marker != "o":
        far = "beyond the picture"
        entry[far] = Line2D([], [], marker=marker, color=style.GREY, ls="none", ms=6, label=far)
    return entry


def _best(axes: Axes, shown: View) -> list[Line2D]:
    """Draw the best so far as steps with a ring around the best of all; its entry of the legend."""
    if shown.best is None:
        return []
    steps = trials_table.best_so_far(shown.ended, shown.direction)
    at, values = zip(*steps, strict=True)
    axes.step(
        [*at, len(shown.ended) + 0.7],
        [*values, values[-1]],
        where="post",
        color=GOOD,
        lw=1.6,
        zorder=2,
    )
    axes.plot([at[-1]], [values[-1]], zorder=4, **BEST)
    said = f"best so far; now trial {shown.best.number}: {values[-1]:.4f}"
    return [Line2D([], [], color=GOOD, lw=1.6, label=said)]


def intermediate_values(shown: View) -> Figure | str:
    """Draw each trial's reports over its epochs or folds, or say why not."""
    reported = [one for one in shown.ended if one.intermediate_values]
    if not reported:
        return f"no trial that ended has reported a value of an {shown.step}".replace("an f", "a f")
    everything = np.array([v for one in reported for v in one.intermediate_values.values()])
    limits = value_range(everything, shown.direction)
    lines = sorted(reported, key=lambda one: (one is shown.best, one.number))
    with style.styled():
        fig = _figure_view.figure(9.0, 4.2, f"Values by {shown.step}", shown.facts)
        axes = fig.add_subplot()
        for one in lines:
            _line(axes, one, shown, limits)
        axes.set(xlabel=shown.step, ylabel=shown.metric, ylim=limits)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
        style.grid(axes)
        handles = _line_legend(shown, reported)
        fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def _line(axes: Axes, one: FrozenTrial, shown: View, limits: tuple[float, float]) -> None:
    steps = sorted(one.intermediate_values)
    values = [one.intermediate_values[step] for step in steps]
    is_best = shown.best is not None and one.number == shown.best.number
    complete = trials_table.value_of(one) is not None
    colour = GOOD if is_best else style.BLUE if complete else style.GREY
    few = len(shown.ended) <= _FEW
    axes.plot(
        steps, values, color=colour, lw=2.4 if is_best else 1.1,
        alpha=1.0 if is_best else 0.75 if few else 0.45, zorder=3 if is_best else 2,
        marker="o" if len(steps) == 1 else "", ms=4,
    )  # fmt: skip
    if not complete and np.isfinite(values[-1]):
        y, _ = within(values[-1], limits)
        axes.plot([steps[-1]], [y], "x", color=style.GREY, ms=6, mew=1.6, zorder=4)


def _line_legend(shown: View, reported: list[FrozenTrial]) -> list[Line2D]:
    found = []
    if shown.best is not None:
        said = f"best: trial {shown.best.number}"
        found.append(Line2D([], [], color=GOOD, lw=2.4, label=said))
    if any(trials_table.value_of(one) is not None and one is not shown.best for one in reported):
        found.append(Line2D([], [], color=style.BLUE, lw=1.1, label="complete"))
    if any(trials_table.value_of(one) is None for one in reported):
        said = "ended early (pruned, out of memory, diverged, failed)"
        found.append(
            Line2D([], [], color=style.GREY, lw=1.1, marker="x", ms=6, mew=1.6, label=said)
        )
    return found


def _pruned(one: FrozenTrial) -> bool:
    return trials_table.state_of(one) == "pruned"
