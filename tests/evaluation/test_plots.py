"""Figures show what the numbers say, and nothing is cut off or covered."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from figures import HAM, LONG, MANY, TWO, assert_nothing_is_cut_off_or_covered, drawn_table, texts
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import plots, style
from histo_mlflow.evaluation.predictions import predictions_table


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


@pytest.mark.parametrize("classes", [TWO, LONG[:2], HAM, LONG, MANY])
@pytest.mark.parametrize("draw", [plots.confusion])
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


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall, plots.confusion])
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
