"""ROC and precision-recall figures: which panels, what is said, what is left out."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import figures
from figures import HAM, LONG, MANY, TWO, assert_nothing_is_cut_off_or_covered, drawn_table, texts
from histo_mlflow.evaluation import plots, predictions
from histo_mlflow.evaluation._curve_points import PRECISION_RECALL, ROC, curves_of
from histo_mlflow.evaluation.bootstrap import draws, interval
from histo_mlflow.evaluation.replicates import rank, ranking

BOTH = pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall])


def of_class(table, k: int):
    """Positive or not, and score, of the test rows."""
    rows = predictions.of_split(table, "test")
    return predictions.targets_of(rows) == k, predictions.log_odds_of(rows)[:, k]


@pytest.mark.parametrize(
    "classes", [TWO, LONG[:2], LONG, MANY], ids=["two", "two long", "seven long", "many"]
)
@BOTH
def test_labels_neither_overlap_nor_leave_the_figure(draw, classes) -> None:
    assert_nothing_is_cut_off_or_covered(draw(drawn_table(classes, 300), classes, band=60))


@pytest.mark.parametrize("rows", [[0], [0, 1, 2, 3, 4, 5]], ids=["one row", "six rows"])
@pytest.mark.parametrize("classes", [TWO, HAM], ids=["two", "seven"])
@BOTH
def test_tiny_tables_are_drawn_and_legible(draw, classes, rows: list[int]) -> None:
    table = predictions.of_split(drawn_table(classes), "test").iloc[rows]
    assert_nothing_is_cut_off_or_covered(draw(table, classes, band=60))


def test_two_classes_have_one_axes_with_curve_band_and_chance() -> None:
    table = drawn_table(TWO)
    positive, score = of_class(table, 1)
    expected = roc_auc_score(positive, score)
    rows = predictions.of_split(table, "test")
    drawn_from = draws(rows["group"], len(rows))
    ranked = rank(positive, score, drawn_from.codes)
    drawn = np.concatenate([ranking(ranked, c)["auc"] for c in drawn_from.chunks()])
    sure = interval(expected, drawn, drawn_from.n_groups)

    fig = plots.roc(table, TWO)

    assert len(fig.axes) == 1
    assert f"ROC curve, tumour vs normal · AUC {expected:.3f}" in texts(fig)
    assert "test: 180 images in 90 groups" in texts(fig)
    assert [t.get_text() for t in fig.axes[0].get_legend().get_texts()] == [
        f"tumour\nAUC {expected:.3f} ({sure.low:.3f} to {sure.high:.3f})\nn = 90 vs 90",
        "band: 95 %, groups resampled",
        "chance · AUC 0.5",
    ]
    curve = fig.axes[0].get_lines()[1]
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(expected, abs=1e-12)
    assert len(fig.axes[0].collections) == 1


def test_the_steps_of_precision_enclose_the_average_precision() -> None:
    table = drawn_table(TWO, 201)
    positive, score = of_class(table, 1)
    expected = average_precision_score(positive, score)

    fig = plots.precision_recall(table, TWO, band=60)

    chance, curve = fig.axes[0].get_lines()
    recall, precision = curve.get_xdata(), curve.get_ydata()
    assert curve.get_drawstyle() == "steps-pre"
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(expected, abs=1e-12)
    assert f"Precision-recall curve, tumour vs normal · AP {expected:.3f}" in texts(fig)
    np.testing.assert_allclose(chance.get_ydata(), positive.mean())
    assert f"chance · share of class {positive.mean():.3f}" in texts(fig)


@pytest.mark.parametrize(
    ("draw", "name", "area"),
    [
        (plots.roc, "AUC", roc_auc_score),
        (plots.precision_recall, "AP", average_precision_score),
    ],
)
def test_more_classes_have_a_panel_each_with_area_interval_and_count(draw, name, area) -> None:
    table = drawn_table(HAM)

    fig = draw(table, HAM, band=60)

    assert [axes.get_title(loc="left") for axes in fig.axes] == list(HAM)
    for k, axes in enumerate(fig.axes):
        positive, score = of_class(table, k)
        said = axes.texts[0].get_text()
        assert said.startswith(f"{name} {area(positive, score):.3f} (")
        assert said.endswith(f") · n = {positive.sum()}")
        assert len(axes.collections) == 1
    values = [area(*of_class(table, k)) for k in range(len(HAM))]
    assert any(text.endswith(f"macro {name} {np.mean(values):.3f}") for text in texts(fig))


def test_axes_at_the_edge_are_labelled_and_those_inside_are_not() -> None:
    fig = plots.roc(drawn_table(HAM), HAM, band=0)

    assert [bool(axes.get_ylabel()) for axes in fig.axes] == [k in (0, 4) for k in range(7)]
    # the last of the upper row has no panel below it
    assert [bool(axes.get_xlabel()) for axes in fig.axes] == [k >= 3 for k in range(7)]


def test_of_many_classes_the_twelve_worst_are_drawn_and_the_rest_is_said() -> None:
    table = drawn_table(MANY, 400, absent=5)
    values = {
        k: roc_auc_score(*of_class(table, k))
        for k in range(len(MANY))
        if of_class(table, k)[0].any()
    }
    worst = sorted(values, key=lambda k: values[k])[:12]

    fig = plots.roc(table, MANY, band=60)

    assert [axes.get_title(loc="left") for axes in fig.axes] == [MANY[k] for k in worst]
    assert any(
        "· 12 of 24 classes, lowest AUC first · 1 undefined ·" in text for text in texts(fig)
    )


@BOTH
def test_a_class_without_images_is_said_to_be_undefined_and_has_no_curve(draw) -> None:
    fig = draw(drawn_table(HAM, absent=3), HAM, band=60)

    name = "AUC" if draw is plots.roc else "AP"
    assert any(f"macro {name} undefined" in text for text in texts(fig))
    assert [text.get_text() for text in fig.axes[3].texts] == [
        f"{name} undefined · n = 0", f"{name} undefined:\nno image of this class"
    ]  # fmt: skip
    assert not fig.axes[3].get_lines()
    assert not fig.axes[3].collections
    assert all(len(axes.get_lines()) == 2 for k, axes in enumerate(fig.axes) if k != 3)


@BOTH
def test_one_class_only_is_said_and_nothing_is_drawn(draw) -> None:
    table = predictions.of_split(drawn_table(HAM), "test")
    only = table[table["label"] == "nv"]

    fig = draw(only, HAM)

    assert len(fig.axes) == 1
    assert not fig.axes[0].get_lines()
    assert any(text.endswith("undefined:\nevery image is of the class nv") for text in texts(fig))
    two = predictions.of_split(drawn_table(TWO), "test")
    fig = draw(two[two["label"] == "normal"], TWO)
    assert any(text.endswith("undefined:\nno image of this class") for text in texts(fig))
    assert not [line for line in fig.axes[0].get_lines() if len(line.get_xdata())]


@BOTH
def test_one_group_has_a_curve_but_no_band_and_says_why(draw) -> None:
    table = drawn_table(TWO).assign(group="g")

    fig = draw(table, TWO)

    assert not fig.axes[0].collections
    assert any(
        ", no interval\n" in text and "one group cannot tell how\ngroups differ" in text
        for text in texts(fig)
    )


@BOTH
def test_no_draws_asked_for_means_neither_band_nor_interval(draw) -> None:
    fig = draw(drawn_table(HAM), HAM, band=0)

    assert not any(axes.collections for axes in fig.axes)
    assert not any("band" in text or " to 0." in text for text in texts(fig))


def test_intervals_of_the_evaluation_are_taken_over() -> None:
    entries = [
        {"metric": "auc", "class": "mel", "low": 0.111, "high": 0.999, "why": ""},
        {"metric": "auc", "class": None, "low": 0.2, "high": 0.3, "why": ""},
        {"metric": "average_precision", "class": "mel", "low": 0.4, "high": 0.5, "why": ""},
    ]

    fig = plots.roc(drawn_table(HAM), HAM, band=60, metrics=entries)

    assert "(0.111 to 0.999)" in fig.axes[4].texts[0].get_text()
    two = plots.roc(drawn_table(TWO), TWO, band=60, metrics=entries)
    assert any("(0.200 to 0.300)" in text for text in texts(two))


@pytest.mark.parametrize("kind", [ROC, PRECISION_RECALL], ids=["roc", "precision"])
def test_many_rows_are_resampled_less_often_but_never_too_rarely(kind, monkeypatch) -> None:
    asked = []

    def drawing(groups, n_rows, *, replicates):
        asked.append(replicates)
        return draws(groups, n_rows, replicates=20)

    monkeypatch.setattr("histo_mlflow.evaluation._curve_points.draws", drawing)
    rows = predictions.of_split(drawn_table(HAM), "test")
    for cells in (1e9, 180 * 7 * 900, 1):
        monkeypatch.setattr("histo_mlflow.evaluation._curve_points._CELLS", cells)
        curves_of(kind, rows, HAM, None, None)

    assert asked == [2000, 900, 500]


@BOTH
def test_the_other_splits_are_never_mixed_in(draw) -> None:
    table = drawn_table(TWO)
    other = table.copy()
    other.loc[other["split"] == "val", "label"] = "normal"

    assert texts(draw(table, TWO, band=60)) == texts(draw(other, TWO, band=60))
    assert any("val: 20 images" in text for text in texts(draw(table, TWO, split="val", band=60)))


def test_helpers_see_a_text_that_is_cut_off() -> None:
    fig = plots.roc(drawn_table(TWO), TWO, band=0)
    fig.text(0.99, 0.5, "a long text that leaves the figure")
    with pytest.raises(AssertionError, match="leaves the figure"):
        figures.assert_nothing_is_cut_off_or_covered(fig)
