"""Figures show what the numbers say, and nothing is cut off or covered."""

from itertools import combinations
from pathlib import Path

import matplotlib
import matplotlib.text
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import metrics, plots, style
from histo_mlflow.evaluation.predictions import predictions_table

HAM = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
LONG = (
    "Basal cell carcinoma, nodular type",
    "Squamous cell carcinoma in situ (Bowen)",
    "Benign keratosis / seborrhoeic",
    "Dermatofibroma_of_lower_extremity",
    "Malignant melanoma superficial spreading",
    "Melanocytic naevus, compound",
    "Vascular lesion $1$",
)
MANY = tuple(f"tissue class {i}" for i in range(24))
TWO = ("normal", "tumour")


def drawn_table(classes: tuple[str, ...], n: int = 200, absent: int | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    targets = np.arange(n) % len(classes)
    if absent is not None:
        targets[targets == absent] = 0
    if len(classes) == 2:
        logits, output = rng.normal(targets * 2.0 - 1, 1.5)[:, None], "sigmoid"
    else:
        logits, output = rng.normal(0, 1, (n, len(classes))), "softmax"
        logits[np.arange(n), targets] += 1.5
    splits = np.where(np.arange(n) < n // 10, "val", "test")
    return predictions_table(
        [f"i{i}" for i in range(n)], [f"g{i // 2}" for i in range(n)], splits,
        targets, logits, classes, output,
    )  # fmt: skip


def history(n: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": e, "seconds": 60.0, "images_per_second": 100.0 + e, "lr": 1e-3 / e,
            "train/loss": 1 / e, "val/loss": 1 / e + 0.01 * e,
            "train/auc": 1 - 0.3 / e, "val/auc": 0.9 - 0.01 * (e - 3) ** 2,
            "train/accuracy": 1 - 0.4 / e, "val/accuracy": 0.8 - 0.2 / e,
            "train/balanced_accuracy": 1 - 0.5 / e, "val/balanced_accuracy": 0.7 - 0.2 / e,
        }
        for e in range(1, n + 1)
    ]  # fmt: skip


def texts(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text()]


def labels_beyond_the_axes(fig: Figure) -> set[matplotlib.text.Text]:
    """Tick labels that matplotlib keeps but never draws."""
    found = set()
    for axis in (axis for axes in fig.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                found |= {tick.label1, tick.label2}
    return found


def assert_nothing_is_cut_off_or_covered(fig: Figure) -> None:
    with style.styled():
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
    width, height = canvas.get_width_height()
    boxes = {}
    undrawn = labels_beyond_the_axes(fig)
    for text in fig.findobj(matplotlib.text.Text):
        if text.get_visible() and text.get_text().strip() and text not in undrawn:
            box = text.get_window_extent()
            assert -1 <= box.x0 <= box.x1 <= width + 1, text.get_text()
            assert -1 <= box.y0 <= box.y1 <= height + 1, text.get_text()
            boxes[text] = box
    for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
        across = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        down = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        assert min(across, down) < 2, f"{a.get_text()!r} over {b.get_text()!r}"


@pytest.mark.parametrize("classes", [TWO, LONG[:2], HAM, LONG, MANY])
@pytest.mark.parametrize("draw", [plots.roc, plots.confusion])
def test_labels_neither_overlap_nor_leave_the_figure(draw, classes: tuple[str, ...]) -> None:
    assert_nothing_is_cut_off_or_covered(draw(drawn_table(classes, 600), classes))


@pytest.mark.parametrize("epochs", [1, 2, 15, 120])
def test_learning_curves_are_legible_for_any_number_of_epochs(epochs: int) -> None:
    assert_nothing_is_cut_off_or_covered(plots.learning_curves(history(epochs)))


def test_learning_curves_draw_the_records_and_mark_the_best_epoch() -> None:
    fig = plots.learning_curves(history(6))
    assert "6 epochs · 6.0 min · best epoch 3 (val AUC 0.900): dotted line" in texts(fig)
    assert [axes.get_title(loc="left") for axes in fig.axes] == [
        "Loss", "ROC AUC", "Balanced accuracy", "Accuracy", "Learning rate", "Speed"
    ]  # fmt: skip
    auc = {line.get_label(): line for line in fig.axes[1].get_lines()}
    np.testing.assert_allclose(auc["val"].get_ydata(), [r["val/auc"] for r in history(6)])
    accuracy = {line.get_label(): line for line in fig.axes[3].get_lines()}
    assert max(accuracy["train"].get_ydata()) == pytest.approx(100 * (1 - 0.4 / 6))
    assert all(axes.get_xlabel() == "epoch" and axes.get_ylabel() for axes in fig.axes)


def test_the_best_epoch_can_be_told_and_must_exist() -> None:
    fig = plots.learning_curves(history(4), best_epoch=2)
    assert "4 epochs · 4.0 min · best epoch 2: dotted line" in texts(fig)
    with pytest.raises(DataError, match="best epoch"):
        plots.learning_curves(history(4), best_epoch=9)


def test_without_an_auc_the_lowest_validation_loss_is_marked() -> None:
    records = [{"epoch": e, "val/loss": abs(e - 2), "val/auc": float("nan")} for e in (1, 2, 3)]
    fig = plots.learning_curves(records)
    assert "3 epochs · best epoch 2 (val loss 0.000): dotted line" in texts(fig)
    assert [axes.get_title(loc="left") for axes in fig.axes] == ["Loss"]


def test_an_epoch_without_an_auc_is_a_gap() -> None:
    records = history(5)
    del records[2]["val/auc"]
    lines = {line.get_label(): line for line in plots.learning_curves(records).axes[1].get_lines()}
    assert np.isnan(lines["val"].get_ydata()).tolist() == [False, False, True, False, False]


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(DataError, match="at least one epoch"):
        plots.learning_curves([])


def test_the_roc_states_the_same_auc_as_the_metrics_and_its_curve_encloses_it() -> None:
    table = drawn_table(TWO)
    fig = plots.roc(table, TWO)
    test = table[table["split"] == "test"]
    scores = np.stack([-test["logit"], test["logit"]], axis=1)
    expected = metrics.auc((test["label"] == "tumour").to_numpy(dtype=int), scores)
    assert f"ROC curve, tumour vs normal · AUC {expected:.3f}" in texts(fig)
    assert "test: 180 images in 90 groups" in texts(fig)
    curve = fig.axes[0].get_lines()[1]
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(expected, abs=1e-12)


def test_a_class_without_images_is_said_to_be_undefined_and_not_drawn() -> None:
    fig = plots.roc(drawn_table(HAM, absent=3), HAM)
    assert any("macro AUC undefined" in text for text in texts(fig))
    assert "df\nAUC undefined · n = 0" in texts(fig)
    curves = [line for line in fig.axes[0].get_lines() if len(line.get_xdata())]
    assert len(curves) == 1 + 6


def test_the_confusion_matrix_shows_counts_and_shares_of_one_split_only() -> None:
    table = predictions_table(
        ["a", "b", "c", "d", "e"], ["g"] * 5, ["test"] * 4 + ["val"], [0, 0, 0, 1, 1],
        [[-1.0], [-1.0], [1.0], [1.0], [1.0]], TWO, "sigmoid",
    )  # fmt: skip
    fig = plots.confusion(table, TWO)
    left, right = fig.axes
    assert [t.get_text() for t in left.texts] == ["2", "1", "0", "1"]
    assert [t.get_text() for t in right.texts] == ["67", "33", "0", "100"]
    assert (
        "test: 4 images in 1 group · accuracy 75.0 % (3 right) · balanced accuracy 83.3 %"
        in texts(fig)
    )
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "normal\nn = 3", "tumour\nn = 1"
    ]  # fmt: skip


def test_a_class_without_images_has_no_shares() -> None:
    fig = plots.confusion(drawn_table(HAM, absent=3), HAM)
    assert [t.get_text() for t in fig.axes[1].texts].count("-") == 7


@pytest.mark.parametrize("draw", [plots.roc, plots.confusion])
def test_another_order_of_classes_or_a_split_that_is_not_there_is_refused(draw) -> None:
    table = drawn_table(TWO)
    with pytest.raises(DataError, match="Expected the classes of the predictions table"):
        draw(table, ("tumour", "normal"))
    with pytest.raises(DataError, match="'train', the table has: test, val"):
        draw(table, TWO, split="train")


def test_drawing_changes_no_global_setting_and_opens_no_window(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plots.save(plots.confusion(drawn_table(HAM), HAM), tmp_path / "c.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_bytes_and_replaces_the_one_before(
    suffix: str, tmp_path: Path
) -> None:
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    second.write_text("an older file")
    for path in (first, second):
        plots.save(plots.roc(drawn_table(TWO), TWO), path)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [first.name, second.name]


def test_a_saved_figure_is_emptied_and_has_the_resolution_asked_for(tmp_path: Path) -> None:
    fig = plots.roc(drawn_table(TWO), TWO)
    size = fig.get_size_inches()
    plots.save(fig, tmp_path / "roc.png", dpi=100)
    assert not fig.axes
    assert Image.open(tmp_path / "roc.png").size == pytest.approx(100 * size, abs=1)


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.png, \.svg or \.pdf, got roc\.bmp"):
        plots.save(plots.roc(drawn_table(TWO), TWO), tmp_path / "roc.bmp")
    assert not list(tmp_path.iterdir())


def test_class_lines_differ_for_28_classes() -> None:
    assert len({tuple(style.class_line(k).items()) for k in range(28)}) == 28


def test_shortened_names_keep_both_ends_and_the_width() -> None:
    assert style.shorten("Dermatofibroma", 14) == "Dermatofibroma"
    assert style.shorten("Dermatofibroma", 9) == "Derm…roma"
    assert len(style.shorten("x" * 50, 10)) == 10
    assert style.shorten("abc", 1) == "…"
    assert max(map(len, style.wrapped(LONG[1], 14, 3).splitlines())) <= 14
    assert style.wrapped("z" * 90, 10, 2).count("\n") <= 1
