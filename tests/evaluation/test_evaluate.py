"""The whole evaluation of a predictions table."""

import json

import numpy as np
import pytest

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import metrics, predictions, thresholds
from histo_mlflow.evaluation.calibration import fit_temperature
from histo_mlflow.evaluation.evaluate import evaluate
from histo_mlflow.evaluation.predictions import predictions_table
from histo_mlflow.jobs.judge import run_metrics


def table(n: int = 600, classes: int = 4, seed: int = 0, *, output: str = "softmax", groups=200):
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, groups, n))
    truth = rng.integers(0, classes, n)
    truth[:classes] = truth[-classes:] = np.arange(classes)
    logits = 3 * rng.normal(size=(n, 1 if output == "sigmoid" else classes))
    if output == "sigmoid":
        logits[:, 0] += 6 * truth - 3
    else:
        logits[np.arange(n), truth] += 5
    return predictions_table(
        [f"i{i}" for i in range(n)],
        [f"g{g}" for g in group],
        np.where(group < groups / 2, "val", "test").tolist(),
        truth,
        logits,
        [f"c{k}" for k in range(classes)],
        output,
        {"age": rng.integers(20, 90, n).tolist(), "sex": rng.choice(["m", "f"], n).tolist()},
    )


@pytest.fixture(scope="module")
def many():
    rows = table()
    return rows, evaluate(rows, replicates=300)


def test_the_values_are_those_of_the_metrics(many) -> None:
    rows, found = many
    test = predictions.of_split(rows, "test")
    truth, logits = predictions.targets_of(test), predictions.logits_of(test)
    expected = metrics.summary(truth, logits, "softmax", predictions.classes_of(test))
    for name, value in expected.items():
        of_class = name.startswith("auc_")
        one = found.named("auc", name[4:]) if of_class else found.named(name)
        assert one.value == pytest.approx(value, abs=1e-12)
        assert one.low < one.value < one.high or name == "ece"
        assert one.naive_low < one.naive_high


def test_every_metric_stands_there_once_and_the_headline_first(many) -> None:
    _, found = many
    names = [(one.metric, one.label) for one in found.metrics]
    assert len(set(names)) == len(names)
    assert names[0] == ("auc", None)
    assert ("recall", "c2") in names


def test_what_is_chosen_is_chosen_on_validation_alone(many) -> None:
    rows, found = many
    val = predictions.of_split(rows, "val")
    fitted = fit_temperature(predictions.targets_of(val), predictions.logits_of(val), "softmax")
    assert found.temperature == fitted
    changed = rows.copy()
    test = changed["split"] == "test"
    shuffled = changed.loc[test, "label"].sample(frac=1, random_state=0).to_numpy()
    changed.loc[test, "label"] = shuffled
    again = evaluate(changed, replicates=20)
    assert again.temperature == found.temperature
    assert [one["value"] for one in again.thresholds] == [one["value"] for one in found.thresholds]


def test_thresholds_are_reported_on_both_splits(many) -> None:
    rows, found = many
    test = predictions.of_split(rows, "test")
    logits = predictions.logits_of(test) / found.temperature.value
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert len(found.thresholds) == 3 * 4
    for one in found.thresholds:
        k = int(one["class"][1:])
        expected = thresholds.at(predictions.targets_of(test) == k, p[:, k], one["value"])
        assert tuple(one["test"].values()) == pytest.approx(expected)


def test_the_temperature_lowers_the_loss_of_an_overconfident_model(many) -> None:
    _, found = many
    assert found.temperature.value > 1
    assert found.after["log_loss"] < found.before["log_loss"]
    assert found.after["ece"] < found.before["ece"]


def test_slices_come_from_what_else_is_known(many) -> None:
    _, found = many
    assert set(found.slices["column"]) == {"age", "sex"}  # 100 groups of 3 are no slices


def test_it_is_json_without_nan(many) -> None:
    rows, found = many
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["metrics"][0]["class"] is None
    assert told["groups"] == rows["group"][rows["split"] == "test"].nunique()
    assert told["delong"] is None


def test_the_same_seed_gives_the_same_evaluation(many) -> None:
    rows, found = many
    assert evaluate(rows, replicates=300).to_dict() == found.to_dict()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_two_classes_have_one_threshold_a_rule_and_delong(output: str) -> None:
    found = evaluate(table(classes=2, output=output), replicates=300)
    assert [one["class"] for one in found.thresholds] == ["c1"] * 3
    auc = found.named("auc")
    assert found.delong.value == pytest.approx(auc.value)
    assert found.delong.low == pytest.approx(auc.low, abs=0.02)
    assert found.named("sensitivity").value is not None


def test_without_validation_nothing_is_chosen_and_that_is_said() -> None:
    found = evaluate(predictions.of_split(table(), "test"), replicates=20)
    assert (found.temperature, found.after, found.thresholds) == (None, None, ())
    assert any("no rows of the split 'val'" in note for note in found.notes)


def test_one_class_leaves_what_it_cannot_define_undefined_and_says_so() -> None:
    rows = table(classes=2)
    rows = rows[(rows["split"] == "val") | (rows["label"] == "c0")]
    found = evaluate(rows, replicates=20)
    assert found.named("auc").value is None
    assert found.delong.low is None
    assert any(note.startswith("auc is undefined") for note in found.notes)
    assert all(one["test"]["sensitivity"] is None for one in found.thresholds)
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_group_has_values_and_no_intervals_by_group() -> None:
    rows = table()
    rows.loc[rows["split"] == "test", "group"] = "g"
    found = evaluate(rows, replicates=20)
    assert found.named("auc").value is not None
    assert found.named("auc").low is None
    assert found.named("auc").naive_low is not None
    assert any("only 1 group:" in note for note in found.notes)


def test_a_perfect_model_is_not_sure_to_be_perfect() -> None:
    rows = table(classes=2)
    logits = np.where(rows["label"] == "c1", 5.0, -5.0)
    perfect = predictions_table(
        rows["id"].tolist(), rows["group"].tolist(), rows["split"].tolist(),
        predictions.targets_of(rows), logits[:, None], ("c0", "c1"), "sigmoid",
    )  # fmt: skip
    found = evaluate(perfect, replicates=50)
    auc = found.named("auc")
    assert (auc.value, auc.low, auc.naive_low) == (1.0, None, None)
    assert auc.why == "all draws give the same value and tell nothing"
    assert found.temperature.at_limit
    assert found.temperature.value == 1.0


def test_a_column_of_too_many_values_gives_no_slices_and_says_so() -> None:
    rows = table()
    rows["slice_serial"] = [f"s{i}" for i in range(len(rows))]
    found = evaluate(rows, replicates=20)
    assert "serial" not in set(found.slices["column"])
    assert any("no slices by serial" in note for note in found.notes)


def test_ten_thousand_classes_are_stated() -> None:
    rng = np.random.default_rng(0)
    n, k = 60, 10_000
    rows = predictions_table(
        [f"i{i}" for i in range(n)], [f"g{i // 2}" for i in range(n)], ["val", "test"] * (n // 2),
        rng.integers(0, k, n), rng.normal(size=(n, k)), [f"c{i}" for i in range(k)], "softmax",
    )  # fmt: skip
    found = evaluate(rows, replicates=20)
    assert found.named("brier").low is not None
    assert found.named("balanced_accuracy").low is None
    assert found.thresholds == ()
    assert sum("10,000 classes" in note for note in found.notes) == 2
    assert found.named("auc").value is None
    assert "auc is undefined on these rows" in found.notes


def test_judging_the_rows_that_were_chosen_on_is_said_to_flatter() -> None:
    found = evaluate(table(), split="val", replicates=20)
    assert any("what they gain here flatters" in note for note in found.notes)
    assert not any("calibrated" in name for name in run_metrics(found))
    assert "val/auc" in run_metrics(found)


def test_a_column_called_group_is_kept_apart_from_the_groups() -> None:
    rows = table(groups=8)
    rows["slice_group"] = ["left" if i % 2 else "right" for i in range(len(rows))]
    found = evaluate(rows, replicates=20)
    assert {"group", "group (given)"} <= set(found.slices["column"])


def test_no_row_of_the_split_is_an_error() -> None:
    with pytest.raises(DataError, match="split 'test', the table has: val"):
        evaluate(predictions.of_split(table(), "val"))
