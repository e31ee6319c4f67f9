"""Every complete trial as a line through all axes of the search space."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from optuna.trial import FrozenTrial

from histo_mlflow.evaluation import style
from histo_mlflow.tuning.report import _figure_view
from histo_mlflow.tuning.report._axis import Axis
from histo_mlflow.tuning.report._figure_view import GOOD, View, quality

MOST_AXES = 12
_OFF = -0.14  # below all axes: where a line goes whose trial had not this axis


def parallel_coordinates(shown: View) -> Figure | str:
    """Draw the complete trials over value and axes, the better the darker, or say why not.

    A line that runs below an axis is of a trial in which that axis was not active.
    """
    if not shown.complete or not shown.axes:
        return "no trial is complete"
    drawn = shown.axes[:MOST_AXES]
    norm, shade = quality(shown)
    values = Axis(shown.metric, "linear", float(norm.vmin or 0), float(norm.vmax or 0))
    some_off = any(axis.name not in one.params for one in shown.complete for axis in drawn)
    left = len(shown.axes) - len(drawn)
    facts = shown.facts + (
        f" · {style.count(left, 'more axis', 'more axes')} not drawn" if left else ""
    )
    # The dark lines lie on top, whichever way is better.
    sign = 1 if shown.direction == "maximize" else -1
    ordered = sorted(shown.complete, key=lambda one: sign * (one.value or 0.0))
    with style.styled():
        width = max(1.55 * (len(drawn) + 1) + 0.6, 6.0)
        fig = _figure_view.figure(width, 4.3, "Parallel coordinates", facts)
        axes = fig.add_subplot()
        for one in ordered:
            look: dict[str, Any] = {
                "color": shade(norm(one.value or 0.0)),
                "lw": 1.4,
                "alpha": 0.85,
            }
            if one is shown.best:
                look = {"color": GOOD, "lw": 2.4}
            axes.plot(range(len(drawn) + 1), _heights(one, values, drawn, norm), **look)
        for place, axis in enumerate((values, *drawn)):
            _upright(axes, place, axis)
        _frame(axes, len(drawn), some_off=some_off)
        best = shown.best
        if best is not None:
            said = f"best: trial {best.number}, {best.value:.4f}"
            fig.legend(
                handles=[Line2D([], [], color=GOOD, lw=2.4, label=said)], loc="outside lower left"
            )
        _figure_view.bar(fig, axes, norm, shade, shown.metric)
    return fig


def _heights(one: FrozenTrial, values: Axis, drawn: tuple[Axis, ...], norm: Any) -> list[float]:
    # A value far worse than all others stands at the edge, as in every figure.
    at = float(np.clip(one.value or 0.0, values.low, values.high))
    shares = [axis.share(one.params) + _apart(axis, one) for axis in drawn]
    return [values.part(at), *(share if _figure_view.known(share) else _OFF for share in shares)]


def _apart(axis: Axis, one: FrozenTrial) -> float:
    """Lines through one choice lie beside each other."""
    if not axis.choices:
        return 0.0
    return 0.05 * ((one.number * 0.618033989) % 1 - 0.5)


def _upright(axes: Axes, place: int, axis: Axis) -> None:
    axes.plot([place, place], [-0.03, 1.03], color=style.GREY, lw=1.0, zorder=3)
    for at, said in axis.ticks(7):
        height = axis.part(at)
        axes.plot([place - 0.03, place], [height, height], color=style.GREY, lw=1.0, zorder=3)
        axes.text(
            place + 0.04, height, said, size=8, va="center", zorder=4,
            bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8},
        )  # fmt: skip
    head = style.wrapped(axis.name, 16, 2)
    axes.text(place, 1.07, head, ha="center", va="bottom", size=9, weight="bold")


def _frame(axes: Axes, last: int, *, some_off: bool) -> None:
    axes.set_xlim(-0.25, last + 0.55)
    axes.set_ylim(_OFF - 0.07 if some_off else -0.06, 1.2)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    if not some_off:
        axes.set_yticks([])
        return
    axes.axhline(_OFF, color=style.FAINT, lw=0.8, zorder=0)
    axes.set_yticks([_OFF], ["not\nactive"])
    axes.tick_params(axis="y", length=0)
