"""The picture of a confirmation: what the search said, what the replicates say, and the gain."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.bootstrap import LEVEL
from histo_mlflow.evaluation.forest import NAMES
from histo_mlflow.tuning.confirm.confirm_report import Confirmation, Confirmed

MOST_ROWS = 20


def confirmation(found: Confirmation, *, title: str, group_kind: str = "group") -> Figure:
    """Draw search value, replicates, mean and interval of each recipe, and its gain beside them.

    The shaded band is one standard error of the best mean; who is in it is as good as the best by
    the one-standard-error rule. Of more than twenty recipes the default and the first are drawn,
    and the picture says so.

    Args:
        found: of at least one candidate and the default.
        title: such as the name of the study.
        group_kind: what a group is, such as "lesion".
    """
    shown = _shown(found)
    rounds = len(found.confirmed[0].values)
    way = "higher" if found.direction == "maximize" else "lower"
    facts = f"{style.count(rounds, 'replicate')}: fresh seeds, folds by {group_kind}"
    if left := len(found.confirmed) - len(shown):
        facts += f" · {style.count(left, 'more recipe')} not drawn"
    with style.styled():
        fig = style.figure(9.6, 0.46 * len(shown) + 1.5, style.shorten(title, 60), facts)
        scores, gains = fig.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
        _scores(scores, shown, found)
        _gains(gains, shown)
        metric = NAMES.get(found.metric.removeprefix("val/"), found.metric.removeprefix("val/"))
        scores.set_xlabel(f"validation {metric} ({way} is better)")
        gains.set_xlabel("gain over the default")
        scores.set_yticks(range(len(shown)), [_label(one, found) for one in shown])
        scores.set_ylim(len(shown) - 0.4, -0.6)
        fig.legend(handles=_legend(found, group_kind), loc="outside lower center", ncols=3)
    return fig


def _shown(found: Confirmation) -> list[Confirmed]:
    default = found.confirmed[found.reference]
    first = [one for one in found.confirmed if one is not default][: MOST_ROWS - 1]
    return [one for one in found.confirmed if one is default or one in first]


def _scores(axes: Axes, shown: list[Confirmed], found: Confirmation) -> None:
    if found.choice is not None:
        best = found.confirmed[found.choice.best].spread.mean
        if best is not None:
            axes.axvspan(*sorted((best, found.choice.limit)), color=style.FAINT, alpha=0.6, lw=0)
    for y, one in enumerate(shown):
        colour = _colour(one, found)
        if one.spread.low is not None and one.spread.high is not None:
            axes.plot([one.spread.low, one.spread.high], [y, y], color=colour, lw=2.6)
        for index, value in enumerate(one.values):
            if value is not None:
                fill = style.SKY if index in one.used else "white"
                axes.plot([value], [y - 0.2], "o", ms=4.5, mfc=fill, mec=style.BLUE, mew=0.7)
        if one.spread.mean is not None:
            axes.plot([one.spread.mean], [y], "o", ms=7.5, color=colour)
        if one.candidate.value is not None:
            axes.plot([one.candidate.value], [y], "D", ms=6.5, mfc="white", mec=style.RED, mew=1.6)
    _rows(axes)


def _gains(axes: Axes, shown: list[Confirmed]) -> None:
    axes.axvline(0, color=style.GREY, lw=1)
    for y, one in enumerate(shown):
        if one.gain is None:
            axes.plot([0], [y], "o", ms=7.5, color=style.GREY)
            continue
        if one.gain.mean is None:
            axes.text(0.02, y, "undefined", transform=axes.get_yaxis_transform(), va="center",
                      size=8.5, color=style.GREY)  # fmt: skip
            continue
        if one.gain.low is not None and one.gain.high is not None:
            axes.plot([one.gain.low, one.gain.high], [y, y], color=style.BLUE, lw=2.6)
        inner = None if one.by_group is None else one.by_group.mean
        if inner is not None and inner.low is not None and inner.high is not None:
            axes.plot([inner.low, inner.high], [y + 0.18] * 2, color=style.ORANGE, lw=1.6)
        clear = one.gain.low is not None and one.gain.low > 0
        axes.plot([one.gain.mean], [y], "o", ms=7.5, color=style.BLUE,
                  mfc=style.BLUE if clear else "white", mew=1.6)  # fmt: skip
    _rows(axes)


def _rows(axes: Axes) -> None:
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=6)


def _colour(one: Confirmed, found: Confirmation) -> str:
    if one is found.winner:
        return style.GREEN
    return style.GREY if one is found.confirmed[found.reference] else style.BLUE


def _label(one: Confirmed, found: Confirmation) -> str:
    name = one.candidate.name
    if one.candidate.default and one.candidate.number is not None:
        name += " (default)"
    return f"{name}, winner" if one is found.winner else name


def _legend(found: Confirmation, group_kind: str) -> list[Line2D]:
    level = f"{100 * LEVEL:.0f} %"
    marks = [
        Line2D([], [], lw=0, marker="D", ms=6.5, mfc="white", mec=style.RED, mew=1.6,
               label="value that the search reported"),
        Line2D([], [], lw=0, marker="o", ms=4.5, mfc=style.SKY, mec=style.BLUE, mew=0.7,
               label="one replicate"),
        Line2D([], [], color=style.BLUE, lw=2.6, marker="o", ms=7.5,
               label=f"mean, {level} interval over replicates"),
    ]  # fmt: skip
    if any(one.by_group is not None for one in found.confirmed):
        label = f"{level} interval by {group_kind}"
        marks.append(Line2D([], [], color=style.ORANGE, lw=1.6, label=label))
    if found.choice is not None:
        label = "one standard error of the best mean"
        marks.append(Line2D([], [], color=style.FAINT, lw=8, label=label))
    marks.append(
        Line2D(
            [],
            [],
            lw=0,
            marker="o",
            ms=7.5,
            color=style.BLUE,
            label="gain over the default, filled where clear",
        )
    )
    return marks
