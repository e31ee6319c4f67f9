"""The confusion matrix of a split, as counts and as shares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure

from histo_mlflow.evaluation import metrics, predictions, style
from histo_mlflow.evaluation._drawing import longest, rows_of, told


def confusion(table: pd.DataFrame, classes: Sequence[str], *, split: str = "test") -> Figure:
    """Draw the confusion matrix of a split twice: as counts and as shares of each true class.

    Args:
        table: a predictions table.
        classes: its classes, in its order.
        split: whose rows are counted.

    Raises:
        DataError: no rows of that split, or other classes than the table's.
    """
    rows = rows_of(table, classes, split)
    truth = predictions.targets_of(rows)
    said = pd.Index(list(classes)).get_indexer(pd.Index(rows["predicted"]))
    counts = metrics.confusion_counts(truth, said, len(classes))
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    right = int(np.trace(counts))
    mean_recall = float(np.nanmean(np.diag(shares)))
    names = _tick_names(classes, totals[:, 0])
    with style.styled():
        side = float(np.clip(0.58 * len(classes), 3.2, 10.0))
        letter = 0.078  # inches: the mean width of a letter of the tick labels
        left_labels = letter * longest(names.down)
        below = letter * longest(names.across) if names.upright else 0.6
        fig = style.figure(
            2 * side + left_labels + 0.9,
            side + below + 0.8,
            "Confusion matrix",
            f"{told(rows, split)} · accuracy {100 * right / len(rows):.1f} % ({right:,} right) · "
            f"balanced accuracy {mean_recall:.1f} %",
        )
        left, second = fig.subplots(1, 2)
        # counts: a root keeps small ones visible beside a class of thousands
        top = max(float(counts.max()), 1.0)
        _matrix(left, counts.astype(np.float64), "Counts", "{:,.0f}", PowerNorm(0.6, 0, top))
        _matrix(second, shares, "Share of the true class (%)", "{:.0f}", PowerNorm(1.0, 0, 100))
        for axes in (left, second):
            ticks = range(len(classes))
            axes.set_xticks(ticks, names.across, rotation=90 if names.upright else 0)
            axes.set_yticks(ticks, names.down if axes is left else [""] * len(classes))
            axes.set_xlabel("predicted class")
        left.set_ylabel("true class (n images)")
    return fig


@dataclass(frozen=True)
class _TickNames:
    across: list[str]
    down: list[str]
    upright: bool


def _tick_names(classes: Sequence[str], totals: npt.NDArray[np.int64]) -> _TickNames:
    """Fit class names to the cells: broken over lines, as they are, or upright."""
    if len(classes) <= 4:
        across = [style.wrapped(name, 14, 3) for name in classes]
        down = [
            f"{style.wrapped(name, 18, 3)}\nn = {n:,}"
            for name, n in zip(classes, totals, strict=True)
        ]
        return _TickNames(across, down, upright=False)
    short = [style.shorten(name, 24) for name in classes]
    down = [f"{name} ({n:,})" for name, n in zip(short, totals, strict=True)]
    return _TickNames(short, down, upright=max(len(name) for name in short) > 7)


def _matrix(
    axes: Axes, values: npt.NDArray[np.float64], title: str, text: str, norm: Normalize
) -> None:
    """Draw one matrix with its numbers; a NaN cell (a class without images) is a dash."""
    colours = colormaps[style.SEQUENTIAL]
    # not of equal aspect: that and constrained layout do not agree on where labels end
    axes.imshow(np.nan_to_num(values), cmap=colours, norm=norm, aspect="auto")
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    size = float(np.clip(13.5 - 0.35 * len(values), 6.5, 11))
    for (i, j), value in np.ndenumerate(values):
        # zeros are left out where there are many cells: the eye finds the rest sooner
        if value == 0 and i != j and len(values) > 4:
            continue
        known = bool(np.isfinite(value))
        axes.text(
            j,
            i,
            text.format(value) if known else "-",
            ha="center",
            va="center",
            size=size,
            color=style.ink_on(colours(float(norm(value)))) if known else style.GREY,
            weight="bold" if i == j else "normal",
        )
