"""The forest plot of slices: their order, what is sure, and what is left out."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from figures import assert_nothing_is_cut_off_or_covered, texts
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import plots, style
from histo_mlflow.evaluation.bootstrap import draws
from histo_mlflow.evaluation.slices import compare_slices


def of(name: str, difference: float = -0.1, half: float | None = 0.2, **more):
    return {
        "column": "site", "slice": name, "rows": 1234, "groups": 1, "value": 0.7 + difference,
        "rest": 0.7, "difference": difference, "p": 0.5,
        "low": None if half is None else difference - half,
        "high": None if half is None else difference + half,
        "worse": half is not None and difference + half < 0,
    } | more  # fmt: skip


def points(axes):
    """Difference and colour of each slice, from the top down."""
    found = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    return [(round(float(p.get_xdata()[0]), 9), to_hex(p.get_markeredgecolor())) for p in found]


@pytest.mark.parametrize("n", [1, 3, 30])
def test_labels_neither_overlap_nor_leave_the_figure(n: int) -> None:
    slices = [of(f"a long name of a place, number {i}", -0.5 + i / 20) for i in range(n)]
    fig = plots.slices_figure(
        slices, metric="balanced_accuracy", facts="test: 99 images in 9 groups"
    )
    assert_nothing_is_cut_off_or_covered(fig)


def test_slices_keep_their_order_and_those_surely_worse_have_another_colour() -> None:
    slices = [of("face", -0.4), of("back", -0.1, groups=7), of("foot", 0.3)]

    fig = plots.slices_figure(slices, metric="accuracy", facts="test")

    axes = fig.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "site = face (1,234 images, 1 group)",
        "site = back (1,234 images, 7 groups)",
        "site = foot (1,234 images, 1 group)",
    ]
    assert points(axes) == [(-0.4, "#d55e00"), (-0.1, "#0072b2"), (0.3, "#0072b2")]
    segments = [line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == 2][1:]
    np.testing.assert_allclose(segments, [[-0.6, -0.2], [-0.3, 0.1], [0.1, 0.5]])
    assert "Slices: accuracy against all other images" in texts(fig)
    assert (
        "test · 1 of 3 slices surely worse · 95 % intervals that hold for all slices at once"
        in texts(fig)
    )
    assert {"0.300 vs 0.700", "surely worse", "not surely worse"} <= set(texts(fig))


def test_twenty_are_drawn_at_most_and_that_is_said() -> None:
    fig = plots.slices_figure([of(f"s{i}") for i in range(23)], metric="accuracy")

    assert len(points(fig.axes[0])) == 20
    assert any(
        "0 of 23 slices surely worse · the 20 worst are drawn" in text for text in texts(fig)
    )


@pytest.mark.parametrize("half", [None, float("nan")], ids=["none", "nan"])
def test_a_slice_without_an_interval_is_a_hollow_point(half) -> None:
    axes = plots.slices_figure([of("face", half=half, worse=False)], metric="accuracy").axes[0]

    assert [line.get_markerfacecolor() for line in axes.get_lines()[1:]] == ["white"]


def test_the_axis_says_which_side_is_worse() -> None:
    higher = plots.slices_figure([of("face")], metric="accuracy").axes[0].get_xlabel()
    lower = plots.slices_figure([of("face")], metric="log_loss").axes[0].get_xlabel()

    assert higher == "difference of accuracy, slice - all others; below 0 is worse"
    assert lower == "difference of log loss (nats), slice - all others; above 0 is worse"


def test_a_table_of_compared_slices_is_drawn_as_it_is() -> None:
    site = np.array(["face", "back", "foot", "arm"])[np.arange(400) % 4]
    right = np.where(site == "face", np.arange(400) % 8 == 0, np.arange(400) % 16 > 1)
    table = compare_slices(right * 1.0, {"site": list(site)}, draws(np.arange(400), 400))

    fig = plots.slices_figure(table.to_dict("records"), metric="accuracy")

    assert fig.axes[0].get_yticklabels()[0].get_text() == "site = face (100 images, 100 groups)"
    assert points(fig.axes[0])[0][1] == style.RED.lower()


def test_no_slice_is_refused() -> None:
    with pytest.raises(DataError, match="at least one slice"):
        plots.slices_figure([], metric="accuracy")
