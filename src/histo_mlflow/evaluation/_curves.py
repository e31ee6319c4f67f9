"""ROC and precision-recall curves with their bands: one axes for two classes, else a panel each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from histo_mlflow.evaluation import style
from histo_mlflow.evaluation._curve_points import (
    PRECISION_RECALL,
    ROC,
    Curve,
    Entry,
    Kind,
    curves_of,
)
from histo_mlflow.evaluation._drawing import figure, longest, panel_inches, panels, rows_of, told
from histo_mlflow.evaluation.bootstrap import Interval

_SIDE = 2.75  # inches, of a panel


def roc(
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    split: str = "test",
    band: int | None = None,
    metrics: Sequence[Entry] | None = None,
) -> Figure:
    """Draw the ROC curve of a split: of class 1 for two classes, else a panel for each vs rest.

    The band holds 95 % of the curves of groups drawn anew, point by point (see `_bands`). Of more
    than 12 classes those of lowest AUC are drawn.

    Args:
        table: a predictions table.
        classes: its classes, in its order.
        split: whose rows are drawn; rows of other splits are never mixed in.
        band: draws of groups; by default 2,000, fewer for many rows; 0 for neither band nor
            interval.
        metrics: the evaluation's, whose intervals are then stated; else they are computed here.

    Raises:
        DataError: no rows of that split, or other classes than the table's.
    """
    return _draw(ROC, table, classes, split, band, metrics)


def precision_recall(
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    split: str = "test",
    band: int | None = None,
    metrics: Sequence[Entry] | None = None,
) -> Figure:
    """Draw precision over recall: of class 1 for two classes, else a panel for each vs rest.

    Steps as average precision sums them; the dotted line is the share of the class, which is the
    precision of guessing.

    Args, Raises: as `roc`; of more than 12 classes those of lowest average precision are drawn.
    """
    return _draw(PRECISION_RECALL, table, classes, split, band, metrics)


def _draw(
    kind: Kind,
    table: pd.DataFrame,
    classes: Sequence[str],
    split: str,
    band: int | None,
    entries: Sequence[Entry] | None,
) -> Figure:
    rows = rows_of(table, classes, split)
    found = curves_of(kind, rows, classes, band, entries)
    facts = [told(rows, split)]
    if len(classes) == 2:
        return _single(kind, found.drawn[0], classes, facts)
    areas = [area for area in found.areas if area is not None]
    undefined = len(classes) - len(areas)
    if len(found.drawn) < len(classes):
        facts.append(f"{len(found.drawn)} of {len(classes)} classes, lowest {kind.area} first")
        facts += [f"{undefined} undefined"] if undefined else []
    mean = None if undefined else float(np.mean(areas))
    title = f"{kind.title}s, each class vs rest · macro {_said(kind, mean)}"
    if not areas:
        return _nothing(kind, title, facts[:1], str(rows["label"].iloc[0]))
    return _many(kind, found.drawn, title, facts)


def _single(kind: Kind, curve: Curve, classes: Sequence[str], facts: list[str]) -> Figure:
    """Two classes: one axes, all that is to be said in the legend beside it."""
    pair = [style.shorten(name, 20) for name in classes]
    title = f"{kind.title}, {pair[1]} vs {pair[0]} · {_said(kind, curve.area.value)}"
    chance = kind.legend
    if kind.metric != "auc":
        share = curve.rows / (curve.rows + curve.others)
        chance = f"chance · share of class {share:.3f}"
    label = "\n".join(
        [
            style.shorten(curve.name, 30),
            _area(kind, curve.area),
            f"n = {curve.rows:,} vs {curve.others:,}",
            # why there is no interval; why there is no curve is said in its place
            *([style.wrapped(curve.area.why, 30, 3)] if curve.points and curve.area.why else []),
        ]
    )
    height = 4.6
    with style.styled():
        beside = 0.075 * longest([label, chance, _BAND]) + 1.0
        fig = figure(height + beside, height, title, " · ".join(facts))
        axes = fig.add_subplot()
        _frame(kind, axes, curve, chance)
        _lines(kind, axes, curve, label)
        axes.set(xlabel=kind.x, ylabel=kind.y)
        handles, _ = axes.get_legend_handles_labels()
        # the curve first, chance last; an undefined one has neither
        ordered = [*handles[1:], *handles[:1]]
        axes.legend(
            handles=ordered or axes.plot([], [], color=style.FAINT, label=label),
            loc="center left",
            bbox_to_anchor=(1.02, 0.5),
            labelspacing=0.9,
        )
    return fig


def _many(kind: Kind, curves: Sequence[Curve], title: str, facts: list[str]) -> Figure:
    """A panel a class."""
    drawn = any(curve.band is not None for curve in curves)
    facts = [*facts, *([_BAND] if drawn else []), "dotted: chance"]
    width, height = panel_inches(len(curves), _SIDE)
    with style.styled():
        fig = figure(width, height, title, " · ".join(facts))
        drawn_in = panels(fig, len(curves))
        inside = (fig.get_figwidth() / width * _SIDE - 0.55) * style.DPI  # pixels, without labels
        for i, (axes, curve) in enumerate(zip(drawn_in, curves, strict=True)):
            _frame(kind, axes, curve, "")
            # bold letters are a tenth wider than those that are measured
            axes.set_title(style.fitted(curve.name, 0.9 * inside, 10.5), pad=19)
            said = f"{_area(kind, curve.area)} · n = {curve.rows:,}"
            axes.text(0, 1.025, said, transform=axes.transAxes, size=8, color=style.GREY)
            _lines(kind, axes, curve, "")
            place = axes.get_subplotspec()
            below_is_empty = place is None or i + place.get_gridspec().ncols >= len(curves)
            axes.set_xlabel(kind.x.split(" (")[0] if below_is_empty else "")
            axes.set_ylabel(kind.y.split(" (")[0] if place is None or place.is_first_col() else "")
    return fig


def _nothing(kind: Kind, title: str, facts: list[str], only: str) -> Figure:
    """Three or more classes of which one occurs: no class has both sides."""
    with style.styled():
        fig = figure(6.0, 3.0, title, " · ".join(facts))
        axes = fig.add_subplot()
        axes.set(xlabel=kind.x, ylabel=kind.y, xlim=(0, 1), ylim=(0, 1))
        _undefined(kind, axes, f"every image is of the class {style.shorten(only, 30)}")
    return fig


def _frame(kind: Kind, axes: Axes, curve: Curve, label: str) -> None:
    """Set limits and grid; draw the line of chance where there is a curve to hold against it."""
    if curve.points is not None:
        share = curve.rows / (curve.rows + curve.others)
        line = [0, 1] if kind.metric == "auc" else [share, share]
        axes.plot([0, 1], line, color=style.GREY, lw=1, ls=(0, (2, 3)), label=label or "_")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    style.grid(axes)


def _lines(kind: Kind, axes: Axes, curve: Curve, label: str) -> None:
    """Draw curve and band, or say why there is none."""
    if curve.points is None:
        _undefined(kind, axes, curve.area.why)
        return
    axes.plot(*curve.points, color=style.BLUE, label=label or "_", drawstyle=kind.drawstyle)
    if curve.band is not None:
        axes.fill_between(
            curve.band.at,
            curve.band.low,
            curve.band.high,
            color=style.BLUE,
            alpha=0.2,
            lw=0,
            label=_BAND if label else "_",
        )


def _undefined(kind: Kind, axes: Axes, why: str) -> None:
    axes.text(
        0.5,
        0.5,
        f"{kind.area} undefined:\n{why}",
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=style.GREY,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )


_BAND = "band: 95 %, groups resampled"


def _area(kind: Kind, area: Interval) -> str:
    if area.low is None or area.high is None:
        return f"{_said(kind, area.value)}{', no interval' if area.value is not None else ''}"
    return f"{_said(kind, area.value)} ({area.low:.3f} to {area.high:.3f})"


def _said(kind: Kind, value: float | None) -> str:
    return f"{kind.area} undefined" if value is None else f"{kind.area} {value:.3f}"
