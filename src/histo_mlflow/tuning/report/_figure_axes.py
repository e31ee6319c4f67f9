"""Figures over the search space: importances, slices, and the ranks of every two axes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial

from histo_mlflow.evaluation import style
from histo_mlflow.tuning.report import _figure_view, trials_table
from histo_mlflow.tuning.report._axis import Axis, dress
from histo_mlflow.tuning.report._figure_view import BEST, View, shades, value_range, within

FEWEST_FOR_IMPORTANCES = 6
MOST_SLICES = 16
MOST_RANKED = 6
_TOP = 5  # Optuna's advice: at least so many trials among the best


def shares(study: Study, shown: View) -> dict[str, float] | str:
    """How much each axis decides who is among the best trials, summing to 1; or why not known.

    PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023, arXiv 2304.10255) with its extension to
    conditional axes (arXiv 2601.20800), as Optuna has it.
    """
    n = len(shown.complete)
    if n < FEWEST_FOR_IMPORTANCES:
        return f"importances need {FEWEST_FOR_IMPORTANCES} complete trials, there are {n}"
    if len(set(shown.values)) == 1:
        return f"all {n} values are equal: no axis makes a difference"
    with warnings.catch_warnings():
        # It says that an axis was rarely active; the picture says how many trials there are.
        warnings.filterwarnings("ignore", message="Some regimes for parameter")
        warnings.filterwarnings("ignore", message="Target and region quantiles select the same")
        found: dict[str, float] = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_top(n) / n)
        )
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))


def importances(shown: View, found: dict[str, float]) -> Figure:
    """Draw how much each axis decides; `found` is of `shares`."""
    names, n = list(reversed(found)), len(shown.complete)
    title, said = "Which axes decide", f"who is among the best {_top(n)} of {n} complete trials"
    with style.styled():
        fig = _figure_view.figure(7.6, max(0.32 * len(names) + 0.8, 1.6), title, shown.facts)
        axes = fig.add_subplot()
        axes.barh(range(len(names)), [found[name] for name in names], 0.62, color=style.BLUE)
        for y, name in enumerate(names):
            axes.text(found[name], y, f"  {found[name]:.2f}", va="center", size=8.5)
        axes.set_yticks(range(len(names)), [style.shorten(name, 28) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 1.12 * max(*found.values(), 1e-9))
        axes.set_xlabel(f"share of the importance: {said} (PED-ANOVA)")
        axes.grid(visible=True, axis="x")
    return fig


def _top(n: int) -> int:
    return max(math.ceil(0.1 * n), min(_TOP, n // 2))


def slices(shown: View) -> Figure | str:
    """Draw the value against each axis, later trials darker, or say why not."""
    if not shown.complete or not shown.axes:
        return "no trial is complete"
    drawn = shown.axes[:MOST_SLICES]
    columns = min(3 if len(drawn) in (3, 5, 6, 9) else 4, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    limits = value_range(shown.values, shown.direction)
    norm = Normalize(0, max(one.number for one in shown.ended) or 1)
    facts = shown.facts + _left_out(len(shown.axes) - len(drawn))
    with style.styled():
        fig = _figure_view.figure(3.1 * columns + 0.9, 2.75 * rows + 0.2, "Slices", facts)
        panels = [fig.add_subplot(rows, columns, i + 1) for i in range(len(drawn))]
        for i, (axes, axis) in enumerate(zip(panels, drawn, strict=True)):
            _slice(axes, axis, shown, limits, norm)
            if i % columns == 0:
                axes.set_ylabel(shown.metric)
            else:
                axes.tick_params(labelleft=False)
        _figure_view.bar(fig, panels, norm, shades(), "trial", whole=True)
        _slice_legend(fig, shown)
    return fig


def _slice(
    axes: Axes, axis: Axis, shown: View, limits: tuple[float, float], norm: Normalize
) -> None:
    dress(axes, axis, "x", most=4)
    axes.set(ylim=limits, xlabel=axis.name)
    _upright(axes, axis, 26)
    for one in shown.complete:
        x = axis.at(one.params) + _spread(axis, one)
        if not _figure_view.known(x):
            continue
        y, marker = within(trials_table.value_of(one) or 0.0, limits)
        axes.plot(
            [x],
            [y],
            marker,
            ms=6,
            mfc=shades()(norm(one.number)),
            mec=style.GREY,
            mew=0.5,
            zorder=3,
        )
        if one is shown.best:
            axes.plot([x], [y], zorder=4, **BEST)
    for one in shown.ended:
        x = axis.at(one.params) + _spread(axis, one)
        if trials_table.value_of(one) is None and _figure_view.known(x):
            axes.plot(
                [x], [shown.worse_edge], "|", color=style.GREY, ms=8, mew=1.2,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    style.grid(axes)


def _slice_legend(fig: Figure, shown: View) -> None:
    look: dict[str, Any] = {"mec": style.GREY, "mew": 0.5, "ms": 6, "ls": "none", "marker": "o"}
    handles = [
        Line2D([], [], mfc=shades()(0.7), label="complete", **look),
        Line2D([], [], label=f"best: trial {shown.best.number if shown.best else ''}", **BEST),
    ]
    if len(shown.complete) < len(shown.ended):
        look = {"color": style.GREY, "marker": "|", "ms": 8, "mew": 1.2, "ls": "none"}
        handles.append(Line2D([], [], label="ended without a value", **look))
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def rank(shown: View, order: Sequence[str] = ()) -> Figure | str:
    """Draw the trials over every two axes, better ranks darker, or say why not.

    With more than six axes those first in `order` are drawn, and the picture says so.
    """
    if not shown.complete:
        return "no trial is complete"
    if len(shown.axes) < 2:
        return "ranks over two axes need two axes, there is one"
    first = {name: i for i, name in enumerate(order)}
    by_order = sorted(shown.axes, key=lambda axis: first.get(axis.name, len(first)))
    chosen = set(by_order[:MOST_RANKED])
    drawn = [axis for axis in shown.axes if axis in chosen]
    side = len(drawn) - 1
    facts = shown.facts + _left_out(len(shown.axes) - len(drawn))
    size = 3.6 if side == 1 else 2.5 if side == 2 else 1.95
    with style.styled():
        fig = _figure_view.figure(size * side + 1.6, size * side + 0.4, "Rank by two axes", facts)
        panels = [
            (row, column, fig.add_subplot(side, side, row * side + column + 1))
            for row in range(side)
            for column in range(row + 1)
        ]
        for row, column, axes in panels:
            _pair(axes, drawn[column], drawn[row + 1], shown)
            if row < side - 1:
                axes.tick_params(labelbottom=False)
                axes.set_xlabel("")
            if column > 0:
                axes.tick_params(labelleft=False)
                axes.set_ylabel("")
        fig.align_ylabels([axes for _, column, axes in panels if column == 0])
        _rank_bar(fig, [axes for _, _, axes in panels], shown)
    return fig


def _rank_bar(fig: Figure, panels: list[Axes], shown: View) -> None:
    n = len(shown.complete)
    ends = {1: "best", n: f"last of {n}"} if n > 1 else {1: "best"}
    beside = fig.colorbar(
        _ranks(n), ax=panels, fraction=0.05, aspect=24, shrink=0.6, anchor=(0, 1), ticks=list(ends)
    )
    beside.ax.invert_yaxis()
    beside.ax.set_yticklabels(list(ends.values()))
    beside.set_label(
        f"rank by {shown.metric}; ringed: trial {shown.best.number if shown.best else ''}"
    )
    beside.outline.set_visible(False)


def _pair(axes: Axes, across: Axis, up: Axis, shown: View) -> None:
    dress(axes, across, "x", most=3)
    dress(axes, up, "y", most=4)
    axes.set(xlabel=across.name, ylabel=up.name)
    _upright(axes, across, 14)
    ranked = trials_table.in_order_of_value(shown.complete, shown.direction)
    shade, last = shades().reversed(), max(len(ranked), 2)
    drawn = False
    for place, one in reversed(list(enumerate(ranked, start=1))):  # the best lies on top
        x = across.at(one.params) + _spread(across, one)
        y = up.at(one.params) + _spread(up, one, turned=True)
        if not (_figure_view.known(x) and _figure_view.known(y)):
            continue
        drawn = True
        axes.plot([x], [y], "o", ms=6, mfc=shade((place - 1) / (last - 1)), mec=style.GREY, mew=0.5)
        if one is shown.best:
            axes.plot([x], [y], **BEST)
    if not drawn:
        said = "never active\ntogether"
        axes.text(
            0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center",
            color=style.GREY, size=8, style="italic",
        )  # fmt: skip
    style.grid(axes)


def _upright(axes: Axes, axis: Axis, room: int) -> None:
    """Write long choices upright, where they would touch: more than `room` characters in all."""
    if sum(map(len, axis.labels)) > room:
        axes.tick_params(axis="x", labelrotation=90)


def _ranks(n: int) -> ScalarMappable:
    """Colour of rank 1 (the best, dark) to n."""
    return ScalarMappable(Normalize(1, max(n, 2)), shades().reversed())


def _spread(axis: Axis, one: FrozenTrial, *, turned: bool = False) -> float:
    """Points of one choice stand beside each other, always at the same place of a trial."""
    if not axis.choices:
        return 0.0
    turn = 0.754877666 if turned else 0.618033989  # far from any fraction: neighbours lie apart
    return 0.5 * ((one.number * turn) % 1 - 0.5)


def _left_out(axes: int) -> str:
    return f" · {style.count(axes, 'more axis', 'more axes')} not drawn" if axes else ""
