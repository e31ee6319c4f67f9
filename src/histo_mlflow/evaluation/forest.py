"""The picture of a comparison: one line a metric, its difference to the baseline with intervals."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.compare import Comparison, Difference

NAMES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "specificity_at_95_sensitivity": "specificity at 95 % sensitivity",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
}
"""What metrics are called in pictures and tables; others go by their own names."""
MOST_MODELS = 7
_NATS = frozenset({"log_loss"})


def groups_named(group_kind: str) -> str:
    """Return "lesion group", or "group" where no more is known."""
    return "group" if group_kind == "group" else f"{group_kind} group"


def comparison(found: Comparison, *, group_kind: str = "group") -> Figure:
    """Draw each overall metric's gain over the baseline: right of 0 is better, whatever the metric.

    Thick lines are intervals by group, thin ones the naive intervals by image. The log loss has an
    axis of its own, since it is no share. With more than seven models the first seven are drawn,
    and the picture says so.

    Args:
        found: of two models or more.
        group_kind: what a group is, such as "lesion".
    """
    drawn = found.names[1 : MOST_MODELS + 1]
    overall = [one for one in found.differences if one.label is None and one.name in drawn]
    names = list(dict.fromkeys(one.metric for one in overall))
    panels = [part for part in (
        [name for name in names if name not in _NATS], [name for name in names if name in _NATS]
    ) if part]  # fmt: skip
    step = 0.22 + 0.24 * len(drawn)
    heights = [step * len(part) + 0.55 for part in panels]
    base = style.shorten(found.names[0], 40)
    one_only = f" of {style.shorten(drawn[0], 40)}" if len(drawn) == 1 else ""
    title = f"Gain{one_only} over {base}"
    subtitle = (
        f"{found.split}: {style.count(found.rows, 'image')} in "
        f"{style.count(found.groups, groups_named(group_kind))}"
    )
    left = len(found.names) - 1 - len(drawn)
    if left:
        subtitle += f" · {style.count(left, 'more model')} not drawn"
    with style.styled():
        width = max(9.4, style.heading_pixels(title, subtitle) / style.DPI)
        fig = style.figure(width, sum(heights) + 0.9, title, subtitle)
        axes = fig.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
        for one, part in zip(axes, panels, strict=True):
            _panel(one, part, overall, drawn)
        axes[-1].set_xlabel("gain over the baseline (right of 0 is better)")
        fig.legend(handles=_legend(drawn, group_kind), loc="outside lower center", ncols=3)
    return fig


def _panel(axes: Axes, metrics: list[str], found: list[Difference], drawn: tuple[str, ...]) -> None:
    axes.axvline(0, color=style.GREY, lw=1)
    reach = min(0.32, 0.11 * (len(drawn) - 1) + 0.05)
    spread = np.linspace(-reach, reach, len(drawn)) if len(drawn) > 1 else np.zeros(1)
    for i, metric in enumerate(metrics):
        for j, name in enumerate(drawn):
            (one,) = [d for d in found if (d.metric, d.name) == (metric, name)]
            _line(axes, one, i + float(spread[j]), style.CLASS_COLOURS[j])
    axes.set_yticks(range(len(metrics)), [NAMES.get(name, name) for name in metrics])
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    widest = max(*map(abs, axes.get_xlim()), 1e-6)
    axes.set_xlim(-widest, widest)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    for i in range(1, len(metrics)):
        axes.axhline(i - 0.5, color=style.FAINT, lw=0.6)


def _line(axes: Axes, one: Difference, y: float, colour: str) -> None:
    """Draw one difference, signed so that a gain is positive, with its number at the right."""
    if one.difference is None:
        said = "undefined"
    else:
        sign = -1 if one.better == "lower" else 1
        for low, high, width in (
            (one.naive_low, one.naive_high, 1.0),
            (one.difference_low, one.difference_high, 3.4),
        ):
            if low is not None and high is not None:
                axes.plot([sign * low, sign * high], [y, y], color=colour, lw=width)
        clear = one.verdict in ("better", "worse")
        axes.plot(
            [sign * one.difference], [y], marker="o", ms=7, color=colour,
            markerfacecolor=colour if clear else "white", markeredgewidth=1.6,
        )  # fmt: skip
        first = one.value - one.difference if one.value is not None else None
        said = "" if first is None else f"{first:.3f} → {one.value:.3f}  ({one.verdict})"
    axes.text(
        1.01, y, said, transform=axes.get_yaxis_transform(), va="center", size=8.5,
        color=style.INK,
    )  # fmt: skip


def _legend(drawn: tuple[str, ...], group_kind: str) -> list[Line2D]:
    marks = [
        Line2D([], [], color=style.CLASS_COLOURS[j], marker="o", label=style.shorten(name, 40))
        for j, name in enumerate(drawn)
    ]
    grey = style.GREY
    return [
        *(marks if len(drawn) > 1 else []),
        Line2D([], [], color=grey, lw=3.4, label=f"95 % interval by {group_kind}"),
        Line2D([], [], color=grey, lw=1.0, label="by image (naive)"),
        Line2D([], [], color=grey, lw=0, marker="o", ms=7, label="filled: clear by itself"),
    ]
