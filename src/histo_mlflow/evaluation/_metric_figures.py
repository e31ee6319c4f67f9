"""The evaluation's metrics with their intervals: overall, and class by class."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.figure import Figure

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import _whiskers, style
from histo_mlflow.evaluation._drawing import figure, longest
from histo_mlflow.evaluation._whiskers import LOWER_IS_BETTER, Entry, name_of

MOST_CLASSES = 40
_ROW = 0.3  # inches
_COLUMNS = 4
_LETTER = 0.07  # inches: the mean width of a letter of the tick labels


def metric_intervals(metrics: Sequence[Entry], *, facts: str = "") -> Figure:
    """Draw the overall metrics between 0 and 1 with the group and the naive interval of each.

    What does not fit between 0 and 1, such as log loss, is said below the title.

    Args:
        metrics: the evaluation's; entries with a class are left to `class_bars`.
        facts: said below the title, such as the split and its number of images and groups.

    Raises:
        DataError: no overall metric among them.
    """
    overall = [entry for entry in metrics if entry["class"] is None]
    if not overall:
        raise DataError("Expected at least one metric that is not of a single class, got none.")
    by_name = {entry["metric"]: entry for entry in overall}
    ordered = [by_name[name] for name in _whiskers.in_order(list(by_name))]
    drawn = [entry for entry in ordered if _whiskers.fits_unit(entry)]
    beyond = [f"{name_of(e['metric'])} {_number(e)}" for e in ordered if e not in drawn]
    ratios = [ratio for entry in drawn if (ratio := _naive_share(entry)) is not None]
    said = [facts, *beyond]
    if ratios:
        said.append(f"naive intervals are {median(ratios):.2f} times as wide (median)")
    labels = [
        name_of(e["metric"]) + (" (lower is better)" if e["metric"] in LOWER_IS_BETTER else "")
        for e in drawn
    ]
    height = max(_ROW * len(drawn) + 1.1, 2.0)
    with style.styled():
        fig = figure(8.6, height, "Metrics and how sure they are", " · ".join(filter(None, said)))
        axes = fig.add_subplot()
        for y, entry in enumerate(drawn):
            _whiskers.draw(axes, y, entry)
            axes.text(
                1.03,
                y,
                _number(entry),
                transform=axes.get_yaxis_transform(),
                va="center",
                size=8.5,
            )
        _whiskers.rows(axes, labels)
        axes.set(xlim=_whiskers.limits(drawn), xlabel="value (share, 0 to 1)")
        _legend(fig, drawn)
    return fig


def class_bars(
    metrics: Sequence[Entry], *, rows: Mapping[str, int] | None = None, facts: str = ""
) -> Figure:
    """Draw each class's metrics between 0 and 1 with their intervals, a panel a metric.

    Two classes have no metrics of their own: then the overall ones are drawn. Of more than 40
    classes those of lowest value in the first panel are drawn, the undefined ones last.

    Args:
        metrics: the evaluation's.
        rows: images of each class, said beside its name.
        facts: said below the title.

    Raises:
        DataError: no metric at all.
    """
    own = [e for e in metrics if e["class"] is not None and _whiskers.fits_unit(e)]
    if not own:
        return metric_intervals(metrics, facts=facts)
    names = _whiskers.in_order([entry["metric"] for entry in own])
    cells = {(entry["metric"], entry["class"]): entry for entry in own}
    classes = list(dict.fromkeys(entry["class"] for entry in own))
    said = [facts]
    if len(classes) > MOST_CLASSES:
        said.append(f"{MOST_CLASSES} of {len(classes)} classes, lowest {name_of(names[0])} first")
        classes = sorted(classes, key=lambda one: _badness(cells.get((names[0], one))))
        classes = classes[:MOST_CLASSES]
    labels = [
        style.shorten(one, 28) + (f" ({rows[one]:,})" if rows is not None and one in rows else "")
        for one in classes
    ]
    columns = min(_COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    width = 2.7 * columns + _LETTER * longest(labels) + 0.3
    row = _ROW if len(classes) <= 12 else 0.22
    height = max(row * len(classes) + 0.8, 1.8) * lines + 0.5
    with style.styled():
        fig = figure(width, height, "Metrics of each class", " · ".join(filter(None, said)))
        for i, name in enumerate(names):
            axes = fig.add_subplot(lines, columns, i + 1)
            drawn = [cells[name, one] for one in classes if (name, one) in cells]
            for y, one in enumerate(classes):
                if (name, one) in cells:
                    _whiskers.draw(axes, y, cells[name, one])
            _whiskers.rows(axes, labels if i % columns == 0 else [""] * len(labels))
            heading = name_of(name)
            axes.set_title(heading[0].upper() + heading[1:], size=9.5)
            axes.set(xlim=_whiskers.limits(drawn), xlabel="value (share, 0 to 1)")
            if i % columns == 0:
                axes.set_ylabel("class" + ("" if rows is None else " (n images)"))
        _legend(fig, own)
    return fig


def _legend(fig: Figure, drawn: Sequence[Entry]) -> None:
    handles = _whiskers.keys(drawn)
    if handles:
        fig.legend(handles=handles, loc="outside lower left", ncols=len(handles))


def _number(entry: Entry) -> str:
    if entry["value"] is None:
        return str(entry["why"]) or "undefined"
    value = f"{entry['value']:.3f}"
    if entry["low"] is None or entry["high"] is None:
        return f"{value}, no interval"
    return f"{value} ({entry['low']:.3f} to {entry['high']:.3f})"


def _naive_share(entry: Entry) -> float | None:
    """Width of the naive interval as a share of the group's; None where either has no width."""
    ends = [entry[key] for key in ("low", "high", "naive_low", "naive_high")]
    if None in ends or ends[1] <= ends[0]:
        return None
    return float((ends[3] - ends[2]) / (ends[1] - ends[0]))


def _badness(entry: Entry | None) -> tuple[bool, float]:
    """Order of entries: lowest value first, undefined last."""
    value = None if entry is None else entry["value"]
    return (value is None, 0.0 if value is None else value)
