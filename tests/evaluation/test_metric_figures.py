"""Metrics with their intervals: what is drawn where, and what is only said."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from figures import HAM, LONG, MANY, assert_nothing_is_cut_off_or_covered, texts
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import plots, style


def entry(metric: str, name: str | None = None, value: float | None = 0.8, **ends):
    """As in an evaluation; the group interval is twice as wide as the naive one."""
    known = value is not None
    found = {
        "metric": metric, "class": name, "value": value, "why": "" if known else "one class only",
        "low": value - 0.1 if known else None, "high": value + 0.1 if known else None,
        "naive_low": value - 0.05 if known else None, "naive_high": value + 0.05 if known else None,
    }  # fmt: skip
    return found | ends


def overall():
    return [
        entry("log_loss", value=1.5), entry("ece", value=0.1, low=0.0), entry("f1", value=0.6),
        entry("auc", value=0.9), entry("average_precision", value=None),
    ]  # fmt: skip


def by_class(classes):
    return [
        entry(metric, name, 0.3 + 0.5 * k / len(classes))
        for metric in ("average_precision", "auc")
        for k, name in enumerate(classes)
    ]


def lines(axes, colour: str):
    """Ends of the horizontal lines of a colour, and the height at which they stand."""
    return [
        (*np.round(line.get_xdata(), 9), round(float(line.get_ydata()[0]), 9))
        for line in axes.get_lines()
        if len(line.get_xdata()) == 2 and to_hex(line.get_color()) == colour.lower()
    ]


def values(axes):
    return [
        round(float(line.get_xdata()[0]), 9)
        for line in axes.get_lines()
        if len(line.get_xdata()) == 1
    ]


def rows(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize("classes", [HAM[:2], LONG, MANY + tuple(f"more {i}" for i in range(16))])
def test_labels_neither_overlap_nor_leave_the_figure(classes) -> None:
    fig = plots.class_bars(by_class(classes), rows=dict.fromkeys(classes, 1234), facts="test")
    assert_nothing_is_cut_off_or_covered(fig)


@pytest.mark.parametrize("entries", [overall(), [entry("auc", value=None)], [entry("accuracy")]])
def test_any_number_of_overall_metrics_is_legible(entries) -> None:
    assert_nothing_is_cut_off_or_covered(plots.metric_intervals(entries, facts="test: 7 images"))


def test_the_group_interval_stands_above_the_naive_one() -> None:
    axes = plots.metric_intervals(overall()).axes[0]

    assert rows(axes) == [
        "ROC AUC", "average precision", "F1", "calibration error (ECE) (lower is better)"
    ]  # fmt: skip
    assert values(axes) == [0.9, 0.6, 0.1]
    assert lines(axes, style.BLUE) == [(0.8, 1.0, 0), (0.5, 0.7, 2), (0.0, 0.2, 3)]
    assert lines(axes, style.ORANGE) == [
        (0.85, 0.95, 0.22), (0.55, 0.65, 2.22), (0.05, 0.15, 3.22)
    ]  # fmt: skip


def test_what_does_not_fit_between_0_and_1_and_how_much_is_promised_is_said() -> None:
    fig = plots.metric_intervals(overall(), facts="test: 9 images")

    assert (
        "test: 9 images · log loss 1.500 (1.400 to 1.600) · "
        "naive intervals are 0.50 times as wide (median)" in texts(fig)
    )


def test_an_undefined_metric_is_said_to_be_so_and_has_no_point() -> None:
    fig = plots.metric_intervals([entry("auc", value=None), entry("accuracy")])

    assert {"undefined", "one class only", "0.800 (0.700 to 0.900)"} <= set(texts(fig))
    assert values(fig.axes[0]) == [0.8]


def test_a_value_without_an_interval_is_a_hollow_point() -> None:
    fig = plots.metric_intervals([entry("accuracy", low=None, high=None)])

    assert not lines(fig.axes[0], style.BLUE)
    assert [
        line.get_markerfacecolor() for line in fig.axes[0].get_lines() if line.get_marker() == "o"
    ] == ["white"]
    assert {"0.800, no interval", "no group interval"} <= set(texts(fig))
    assert "95 % interval, groups resampled" not in texts(fig)


def test_each_class_has_a_row_in_a_panel_a_metric() -> None:
    fig = plots.class_bars([*overall(), *by_class(HAM)], rows={"mel": 1113, "df": 0})

    assert [axes.get_title(loc="left") for axes in fig.axes] == ["ROC AUC", "Average precision"]
    assert rows(fig.axes[0]) == ["akiec", "bcc", "bkl", "df (0)", "mel (1,113)", "nv", "vasc"]
    for axes in fig.axes:
        assert values(axes) == [round(0.3 + 0.5 * k / 7, 9) for k in range(7)]
        assert len(lines(axes, style.BLUE)) == len(lines(axes, style.ORANGE)) == 7
        assert axes.get_xlabel()


def test_a_class_that_is_undefined_keeps_its_row() -> None:
    entries = [entry("auc", name, None if name == "df" else 0.7) for name in HAM]

    axes = plots.class_bars(entries).axes[0]

    assert [(t.get_text(), t.get_position()[1]) for t in axes.texts] == [("undefined", 3)]
    assert len(values(axes)) == 6


def test_two_classes_show_the_overall_metrics() -> None:
    fig = plots.class_bars(overall())

    assert rows(fig.axes[0])[0] == "ROC AUC"
    assert "Metrics and how sure they are" in texts(fig)


def test_of_very_many_classes_the_worst_are_drawn_and_the_undefined_last() -> None:
    names = [f"c{i}" for i in range(45)]
    entries = [entry("auc", name, None if i < 3 else 0.8 - i / 100) for i, name in enumerate(names)]

    fig = plots.class_bars(entries, facts="test")

    assert rows(fig.axes[0]) == names[44:4:-1]
    assert "test · 40 of 45 classes, lowest ROC AUC first" in texts(fig)


def test_no_metric_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="at least one metric"):
        plots.class_bars([])
    with pytest.raises(DataError, match="at least one metric"):
        plots.metric_intervals(by_class(HAM))
