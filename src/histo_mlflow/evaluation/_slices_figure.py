"""The forest plot of slices: for whom is the model worse, and is that sure?"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import style
from histo_mlflow.evaluation._drawing import figure, longest
from histo_mlflow.evaluation._whiskers import LOWER_IS_BETTER, name_of, point
from histo_mlflow.evaluation._whiskers import rows as label_rows
from histo_mlflow.evaluation.style import count

MOST = 20


def slices_figure(
    slices: Sequence[Mapping[str, Any]], *, metric: str, facts: str = "", most: int = MOST
) -> Figure:
    """Draw how far each slice differs from all other images, in the order given: worst first.

    Args:
        slices: the evaluation's, or the rows of `compare_slices`: `column`, `slice`, `rows`,
            `groups`, `value`, `rest`, `difference`, `low`, `high`, `worse`.
        metric: what was compared, such as `accuracy`.
        facts: said below the title, such as the split.
        most: slices drawn, at most; how many are left out is said.

    Raises:
        DataError: there is no slice to draw.
    """
    if not slices:
        raise DataError("Expected at least one slice to draw, got none.")
    drawn = slices[:most]
    worse = sum(bool(one["worse"]) for one in slices)
    said = [facts, f"{worse:,} of {count(len(slices), 'slice')} surely worse"]
    if len(drawn) < len(slices):
        said.append(f"the {len(drawn)} worst are drawn")
    said.append("95 % intervals that hold for all slices at once")
    labels = [_label(one) for one in drawn]
    numbers = [f"{one['value']:.3f} vs {one['rest']:.3f}" for one in drawn]
    name = name_of(metric)
    with style.styled():
        fig = figure(
            5.6 + 0.07 * longest(labels),
            max(0.3 * len(drawn) + 1.2, 2.0),
            f"Slices: {name} against all other images",
            " · ".join(filter(None, said)),
        )
        axes = fig.add_subplot()
        axes.axvline(0, color=style.GREY, lw=1, ls=(0, (2, 3)), zorder=1)
        for y, (one, number) in enumerate(zip(drawn, numbers, strict=True)):
            colour = style.RED if one["worse"] else style.BLUE
            known = _known(one)
            if known:
                axes.plot([one["low"], one["high"]], [y, y], color=colour, lw=2)
            filled = colour if known else "white"
            point(axes, one["difference"], y, colour, filled)
            axes.text(1.03, y, number, transform=axes.get_yaxis_transform(), va="center", size=8.5)
        label_rows(axes, labels)
        better = "above 0 is worse" if metric in LOWER_IS_BETTER else "below 0 is worse"
        unit = " (nats)" if metric == "log_loss" else ""
        axes.set_xlabel(f"difference of {name}{unit}, slice - all others; {better}")
        axes.set_title("slice vs others", loc="right", size=8.5, weight="normal")
        axes.margins(x=0.06)
        handles = [
            Line2D([], [], color=colour, marker="o", ms=5.5, lw=2, label=text)
            for colour, text, there in (
                (style.RED, "surely worse", any(one["worse"] for one in drawn)),
                (style.BLUE, "not surely worse", not all(one["worse"] for one in drawn)),
            )
            if there
        ]
        fig.legend(handles=handles, loc="outside lower left", ncols=2)
    return fig


def _label(one: Mapping[str, Any]) -> str:
    name = style.shorten(f"{one['column']} = {one['slice']}", 34)
    return f"{name} ({count(int(one['rows']), 'image')}, {count(int(one['groups']), 'group')})"


def _known(one: Mapping[str, Any]) -> bool:
    return all(one[end] is not None and isfinite(one[end]) for end in ("low", "high"))
