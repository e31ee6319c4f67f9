"""Points with intervals: the metrics of the evaluation, and how sure they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from histo_mlflow.evaluation import style

Entry = Mapping[str, Any]
"""Keys: metric, class, value, low, high, naive_low, naive_high, why. None is undefined."""

NAMES = {
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "recall": "sensitivity (recall)",
    "sensitivity": "sensitivity (recall)",
    "specificity": "specificity",
    "precision": "precision",
    "sensitivity_at_specificity": "sensitivity at 95 % specificity",
    "specificity_at_sensitivity": "specificity at 95 % sensitivity",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "log_loss": "log loss",
}
"""How metrics are called in figures, in the order in which they are drawn."""
LOWER_IS_BETTER = frozenset({"brier", "ece", "log_loss"})

_APART = 0.22  # of a row: the naive interval below the group's


def name_of(metric: str) -> str:
    """Call a metric as people do; one that is not known keeps its name."""
    return NAMES.get(metric, metric.replace("_", " "))


def in_order(metrics: Sequence[str]) -> list[str]:
    """Each once, in the order of `NAMES`; the others after them, in their own."""
    places = {name: i for i, name in enumerate(NAMES)}
    return sorted(dict.fromkeys(metrics), key=lambda name: places.get(name, len(places)))


def fits_unit(entry: Entry) -> bool:
    """Whether an entry can be drawn between 0 and 1; one without a value can be said there."""
    ends = [entry[key] for key in ("value", "low", "high", "naive_low", "naive_high")]
    return entry["metric"] != "log_loss" and all(end is None or 0 <= end <= 1 for end in ends)


def draw(axes: Axes, y: float, entry: Entry) -> None:
    """Draw point and both intervals at height y, or say that the value is undefined."""
    if entry["value"] is None:
        axes.text(
            0.01,
            y,
            "undefined",
            transform=axes.get_yaxis_transform(),
            va="center",
            size=8,
            color=style.GREY,
            style="italic",
        )
        return
    sure = entry["low"] is not None and entry["high"] is not None
    if sure:
        axes.plot([entry["low"], entry["high"]], [y, y], color=style.BLUE, lw=2)
    if entry["naive_low"] is not None and entry["naive_high"] is not None:
        ends = [entry["naive_low"], entry["naive_high"]]
        axes.plot(ends, [y + _APART, y + _APART], color=style.ORANGE, lw=1.4)
    filled = style.BLUE if sure else "white"
    point(axes, entry["value"], y, style.BLUE, filled)


def point(axes: Axes, x: float, y: float, colour: str, filled: str) -> None:
    """Draw a value; also whole where it stands on the edge of the axes."""
    axes.plot([x], [y], "o", ms=5.5, mfc=filled, mec=colour, mew=1.4, clip_on=False, zorder=3)


def keys(entries: Sequence[Entry]) -> list[Artist]:
    """Handles of a legend for what `draw` has drawn of these entries."""
    known = [entry for entry in entries if entry["value"] is not None]
    look: dict[str, Any] = {"marker": "o", "ms": 5.5, "mec": style.BLUE, "mew": 1.4}
    found: list[Artist] = []
    if any(entry["low"] is not None for entry in known):
        label = "95 % interval, groups resampled"
        found.append(Line2D([], [], color=style.BLUE, lw=2, mfc=style.BLUE, label=label, **look))
    if any(entry["naive_low"] is not None for entry in known):
        label = "naive: images resampled"
        found.append(Line2D([], [], color=style.ORANGE, lw=1.4, label=label))
    if any(entry["low"] is None for entry in known):
        found.append(Line2D([], [], color="none", mfc="white", label="no group interval", **look))
    return found


def limits(entries: Sequence[Entry]) -> tuple[float, float]:
    """Where an axis of these entries begins and ends: at a tenth below all numbers, and at 1."""
    ends = [
        entry[key]
        for entry in entries
        for key in ("value", "low", "naive_low")
        if entry[key] is not None
    ]
    return max(0.0, min(0.9, int(10 * min(ends, default=0.0) - 1e-9) / 10)), 1.0


def rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label rows 0, 1, ... from the top down."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
