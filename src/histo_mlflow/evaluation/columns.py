"""Figures of a column of metadata against the classes; what is drawn comes from `data.overview`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from histo_mlflow.data.overview import QUANTILES, Column
from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.style import count

MOST_ROWS = 40


def number_by_class(column: Column, *, classes: Sequence[str]) -> Figure:
    """Draw the quantiles of a number for each class: line 5-95 %, bar 25-75 %, dot 50 %.

    Args:
        column: of kind "number".
        classes: in order; a class without values is an empty line.
    """
    table = column.by_class.loc[list(classes)].head(MOST_ROWS)
    low, quarter, middle, most, high = (table[q].to_numpy(np.float64) for q in QUANTILES)
    names = [
        f"{style.shorten(str(name), 24)} ({n:,})"
        for name, n in zip(table.index, table["n"], strict=True)
    ]
    n = int(column.by_class["n"].sum())
    facts = f"{count(n, 'image')} with a value, {column.missing:,} without" + _strength(column)
    with style.styled():
        fig = style.figure(
            7.6, max(1.5, 0.36 * len(table) + 0.8), style.shorten(column.name, 60), facts
        )
        axes = fig.add_subplot()
        at = np.arange(len(table))
        axes.hlines(at, low, high, color=style.BLUE, lw=1.3, label="5 to 95 % of the images")
        axes.hlines(at, quarter, most, color=style.SKY, lw=8, label="25 to 75 %")
        axes.plot(middle, at, "o", color=style.INK, ms=5, label="median")
        axes.set_yticks(at, names)
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.set_xlabel(style.shorten(column.name, 40))
        style.grid(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return fig


def category_by_class(column: Column, *, classes: Sequence[str]) -> Figure:
    """Draw the share of each level within each class as a matrix of percentages.

    Args:
        column: of kind "category".
        classes: in order; a class without images is a row of dashes.
    """
    counts = column.by_class.loc[list(classes)].head(MOST_ROWS)
    totals = counts.sum(axis=1).to_numpy(np.float64)
    shares = np.full(counts.shape, np.nan)
    has = totals > 0
    shares[has] = 100 * counts.to_numpy()[has] / totals[has, None]
    across = [
        f"{style.shorten(str(level), 22)} ({n:,})"
        for level, n in zip(counts.columns, column.by_class.sum(), strict=True)
    ]
    down = [
        f"{style.shorten(str(name), 24)} ({int(n):,})"
        for name, n in zip(counts.index, totals, strict=True)
    ]
    facts = (
        f"share of each class in % · {count(int(column.by_class.to_numpy().sum()), 'image')}"
        + _strength(column)
    )
    names = 0.08 * max(map(len, down))
    width = max(6.0, 0.55 * len(across) + names + 0.6)
    longest = 0.075 * max(map(len, across))
    upright = longest > 0.95 * (width - names - 0.3) / len(across)
    height = 0.36 * len(down) + (longest if upright else 0.2) + 0.3
    with style.styled():
        fig = style.figure(width, max(height, 1.4), style.shorten(column.name, 60), facts)
        axes = fig.add_subplot()
        colours, norm = colormaps[style.SEQUENTIAL], PowerNorm(0.6, 0, 100)
        axes.imshow(np.nan_to_num(shares), cmap=colours, norm=norm, aspect="auto")
        for (i, j), share in np.ndenumerate(shares):
            told = "-" if np.isnan(share) else _percent(share)
            ink = style.ink_on(colours(float(norm(np.nan_to_num(share)))))
            axes.text(j, i, told, ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(across)), across, rotation=90 if upright else 0)
        axes.set_yticks(range(len(down)), down)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return fig


def _percent(share: float) -> str:
    if share == 0:
        return "0"
    return "<1" if share < 0.5 else f"{share:.0f}"


def _strength(column: Column) -> str:
    if column.association is None:
        return ""
    name = "correlation ratio" if column.kind == "number" else "Cramér's V"
    return f" · {name} with the class {column.association:.2f}"
