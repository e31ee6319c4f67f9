"""Out-of-fold predictions: joined once each, measured in folds and pooled, and compared."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import folds, predictions

CLASSES = ("akiec", "bcc", "nv")
N_GROUPS, PER_GROUP = 60, 3


def made(seed, rows, *, signal=1.0, classes=CLASSES, output="softmax", split="test", **attributes):
    """Predictions of some of the images; class and group follow from the image's number."""
    rng = np.random.default_rng(seed)
    groups = rows // PER_GROUP
    targets = groups % len(classes)
    if output == "sigmoid":
        logits = signal * (2.0 * targets[:, None] - 1) + rng.normal(size=(len(rows), 1))
    else:
        logits = signal * np.eye(len(classes))[targets] + rng.normal(size=(len(rows), len(classes)))
    return predictions.predictions_table(
        [f"i{row:03d}" for row in rows], [f"g{group}" for group in groups], [split] * len(rows),
        targets, logits, classes, output, attributes,
    )  # fmt: skip


ROWS = np.arange(N_GROUPS * PER_GROUP)
GROUP_OF_ROW = ROWS // PER_GROUP
IDS = [f"i{row:03d}" for row in ROWS]
BY_GROUP = [ROWS[np.isin(GROUP_OF_ROW // 3 % 3, fold)] for fold in range(3)]
BY_ROW = [ROWS[fold::3] for fold in range(3)]


def of(parts, **options):
    return folds.joined([made(fold, rows, **options) for fold, rows in enumerate(parts)], IDS)


def test_every_image_is_there_once_in_the_given_order_with_its_fold():
    table = of(BY_GROUP)

    assert table["id"].tolist() == IDS
    assert set(table["split"]) == {"test"}
    for fold, rows in enumerate(BY_GROUP):
        assert set(table.index[table[folds.FOLD] == str(fold)]) == set(rows)
    assert list(predictions.attributes_of(table)) == ["fold"]


def test_a_column_of_the_data_that_is_called_fold_keeps_its_values():
    tables = [made(0, rows, fold=["mine"] * len(rows)) for rows in BY_GROUP]
    found = predictions.attributes_of(folds.joined(tables, IDS))

    assert set(found["fold"]) == {"0", "1", "2"}
    assert set(found["fold_given"]) == {"mine"}


def test_images_that_are_missing_doubled_or_strange_are_counted():
    with pytest.raises(DataError) as told:
        folds.joined([made(0, ROWS[:100]), made(1, ROWS[98:179])], ["i179", "x", *IDS[:-2]])
    assert "2 in several folds (first: i098, i099)" in str(told.value)
    assert "2 in no fold (first: i179, x)" in str(told.value)
    assert "1 that are not of the data set (first: i178)" in str(told.value)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (lambda: [made(0, ROWS)], "2 folds or more, got 1"),
        (lambda: [made(0, ROWS[:9]), made(1, ROWS[9:], split="val")], "test predictions of fold 1"),
        (
            lambda: [made(0, ROWS[:9]), made(1, ROWS[9:], classes=("a", "b"), output="sigmoid")],
            r"akiec, bcc, nv \(softmax\) in fold 0 and a, b \(sigmoid\) in fold 1",
        ),
    ],
    ids=["one", "split", "classes"],
)
def test_tables_that_do_not_belong_together_are_refused(tables, said):
    with pytest.raises(DataError, match=said):
        folds.joined(tables(), IDS)


@pytest.mark.parametrize(
    ("classes", "output"), [(CLASSES, "softmax"), (("a", "b"), "softmax"), (("a", "b"), "sigmoid")]
)
def test_means_and_pooled_metrics_are_scikit_learns(classes, output):
    table = of(BY_GROUP, classes=classes, output=output)
    found = {one.metric: one for one in folds.metrics_of(folds.measure(table, replicates=50))}

    def auc(rows):
        p, truth = predictions.probabilities_of(rows), predictions.targets_of(rows)
        if len(classes) == 2:
            return roc_auc_score(truth, p[:, 1])
        return roc_auc_score(truth, p, multi_class="ovr", average="macro")

    by_fold = [auc(table[table[folds.FOLD] == str(fold)]) for fold in range(3)]
    assert found["auc"].folds == pytest.approx(by_fold, abs=1e-12)
    assert found["auc"].mean.value == pytest.approx(np.mean(by_fold), abs=1e-12)
    assert found["auc"].sd == pytest.approx(pd.Series(by_fold).std(), abs=1e-12)
    assert found["auc"].pooled.value == pytest.approx(auc(table), abs=1e-12)
    expected = log_loss(predictions.targets_of(table), predictions.probabilities_of(table))
    assert found["log_loss"].pooled.value == pytest.approx(expected, abs=1e-9)
    assert found["auc"].pooled.low < found["auc"].pooled.value < found["auc"].pooled.high
    assert found["auc"].mean.low < found["auc"].mean.value < found["auc"].mean.high
    assert ("auc_nv" in found) == (len(classes) == 3)


def test_a_draw_of_the_mean_is_the_mean_over_folds_of_the_drawn_images():
    """Against a table in which every group is repeated as often as it is drawn."""
    table = of(BY_GROUP)
    found = folds.measure(table, replicates=40)
    drawn = folds.bootstrap.draws(table["group"].tolist(), len(table), replicates=40)
    counts = np.concatenate(list(drawn.chunks()))
    for draw in (0, 17, 39):
        repeated = table.iloc[np.repeat(np.arange(len(table)), counts[draw][drawn.codes])]
        by_fold = []
        for fold in range(3):
            rows = repeated[repeated[folds.FOLD] == str(fold)]
            truth, p = predictions.targets_of(rows), predictions.probabilities_of(rows)
            by_fold.append(roc_auc_score(truth, p, multi_class="ovr", average="macro"))
            hits = np.mean(rows["label"] == rows["predicted"])
            assert 0 < hits < 1
        assert found.fold_draws["auc"][draw] == pytest.approx(np.mean(by_fold), abs=1e-12)
        accuracy = np.mean(repeated["label"] == repeated["predicted"])
        assert found.pooled_draws["accuracy"][draw] == pytest.approx(accuracy, abs=1e-12)


def test_draws_do_not_depend_on_how_many_of_them_fit_into_memory(monkeypatch):
    table = of(BY_GROUP)
    whole = folds.measure(table, replicates=101).fold_draws["auc"]
    monkeypatch.setattr(folds.bootstrap, "_CELLS", 7 * len(table))
    assert np.array_equal(whole, folds.measure(table, replicates=101).fold_draws["auc"])


def test_a_class_that_a_fold_lacks_leaves_its_mean_undefined_and_the_pooled_metric_defined():
    lacking = ROWS[(ROWS // PER_GROUP) % 3 != 2][:30]
    rest = np.setdiff1d(ROWS, lacking)
    found = {
        one.metric: one
        for one in folds.metrics_of(folds.measure(of([lacking, rest]), replicates=50))
    }

    assert found["auc_nv"].folds[0] is None
    assert (found["auc_nv"].mean.value, found["auc_nv"].sd) == (None, None)
    assert found["auc_nv"].mean.why == "undefined in a fold"
    assert found["auc"].mean.value is None
    assert found["auc"].pooled.low is not None
    assert found["accuracy"].mean.low is not None


def test_one_group_has_no_interval():
    table = of(BY_GROUP).assign(group="g")
    found = folds.metrics_of(folds.measure(table, replicates=10))

    assert {one.pooled.why for one in found} == {"one group cannot tell how groups differ"}


def test_a_metric_that_is_not_resampled_keeps_its_value_and_says_so(monkeypatch):
    """As of ten thousand classes, whose ranking metrics would take minutes."""
    original = folds.replicate

    def fewer(*arguments):
        return {k: v for k, v in original(*arguments).items() if not k.startswith("auc")}

    monkeypatch.setattr(folds, "replicate", fewer)
    found = folds.measure(of(BY_GROUP), replicates=20)
    auc = next(one for one in folds.metrics_of(found) if one.metric == "auc")
    assert auc.pooled.value == found.pooled["auc"]
    assert auc.pooled.why == auc.mean.why == "not resampled with so many classes"
    gap = next(one for one in folds.gaps(found, found) if one.metric == "auc")
    assert (gap.pooled.value, gap.pooled.low) == (0, None)


def test_a_gap_is_found_where_there_is_one_and_spans_0_where_there_is_none():
    honest = folds.measure(of(BY_GROUP, signal=1.0), replicates=500)
    flattering = folds.measure(of(BY_ROW, signal=3.0), replicates=500)
    found = {gap.metric: gap for gap in folds.gaps(flattering, honest)}

    assert found["auc"].pooled.low > 0
    assert found["auc"].mean.low > 0
    assert found["log_loss"].pooled.high < 0
    expected = flattering.pooled["auc"] - honest.pooled["auc"]
    assert found["auc"].pooled.value == pytest.approx(expected)
    for gap in folds.gaps(honest, honest):
        assert (gap.pooled.low, gap.pooled.value, gap.pooled.high) == (0, 0, 0)


def test_a_gap_needs_the_same_images():
    honest = folds.measure(of(BY_GROUP), replicates=10)
    other = folds.joined([made(0, ROWS[:90]), made(1, ROWS[90:150])], IDS[:150])
    with pytest.raises(DataError, match="150 images of 50 groups and 180 of 60"):
        folds.gaps(folds.measure(other, replicates=10), honest)
