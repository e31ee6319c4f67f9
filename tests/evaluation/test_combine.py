"""The mean of logits of the same images, and what must not be averaged."""

import numpy as np
import pandas as pd
import pytest

import finished_runs
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.combine import mean_logits
from histo_mlflow.evaluation.compare import paired

TWO = ("benign", "malignant")
cases = finished_runs.cases


def test_logits_are_averaged_image_by_image_in_the_order_of_the_first():
    a, b, c = cases(seed=1), cases(seed=2), cases(seed=3)
    found = mean_logits({"a": a, "b": b.sample(frac=1, random_state=0), "c": c[::-1]})

    expected = (predictions.logits_of(a) + predictions.logits_of(b) + predictions.logits_of(c)) / 3
    np.testing.assert_allclose(predictions.logits_of(found), expected, atol=1e-14)
    for column in ("id", "group", "split", "label", "slice_sex"):
        assert found[column].tolist() == a[column].tolist()
    predictions.validated(found)


def test_a_softmax_mean_is_the_geometric_mean_of_probabilities_whatever_the_logits_offset():
    a, b = cases(seed=1), cases(seed=2)
    offset = np.random.default_rng(0).normal(0, 5, (len(b), 1))
    shifted = predictions.predictions_table(
        b["id"].tolist(), b["group"].tolist(), b["split"].tolist(), predictions.targets_of(b),
        predictions.logits_of(b) + offset, predictions.classes_of(b), "softmax",
    )  # fmt: skip
    geometric = np.sqrt(predictions.probabilities_of(a) * predictions.probabilities_of(b))
    geometric /= geometric.sum(axis=1, keepdims=True)
    for other in (b, shifted):
        found = predictions.probabilities_of(mean_logits({"a": a, "b": other}))
        np.testing.assert_allclose(found, geometric, atol=1e-12)


def test_one_table_comes_back_as_it_is():
    pd.testing.assert_frame_equal(mean_logits({"a": cases(seed=1)}), cases(seed=1))


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_an_ensemble_of_independent_errors_is_clearly_better_than_its_first_member(output):
    members = {f"fold {i}": cases(600, classes=TWO, seed=i, output=output) for i in range(5)}
    first = members["fold 0"]
    _, gain = paired({"one": first, "ensemble": mean_logits(members)}, replicates=300).named("auc")
    assert gain.verdict == "better"


def test_what_else_is_known_is_joined_and_blanks_agree():
    a = cases(seed=1).assign(slice_age=[np.nan] + [40.0] * 239)
    b = cases(seed=2).assign(slice_age=[np.nan] + [40.0] * 239, slice_site="arm")
    found = predictions.attributes_of(mean_logits({"a": a, "b": b}))
    assert list(found.columns) == ["sex", "age", "site"]
    assert found["age"].isna().sum() == 1
    assert set(found["site"]) == {"arm"}


def test_a_table_without_rows_is_told_like_one_that_is_not_there():
    with pytest.raises(DataError, match="tables to combine, got none"):
        mean_logits({})
    with pytest.raises(DataError, match="tables with rows, got none"):
        mean_logits({"a": cases()[:0], "b": cases()[:0]})


def differing(column: str, value: object) -> pd.DataFrame:
    table = cases(seed=2)
    return table.assign(**{column: table[column].where(table["id"] != "i0200", value)})


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda: cases(seed=2)[:200], "40 of 240 images of a are not in all tables"),
        (lambda: cases(seed=2).assign(id=lambda t: "x" + t["id"]), r"240 of 240 .* \(0 are\)"),
        (lambda: differing("split", "val"), "1 differ: i0200 is test in a and val in b"),
        (lambda: differing("group", "other"), "same group of an image everywhere"),
        (lambda: differing("slice_sex", "unknown"), "same sex of an image everywhere, but 1"),
        (lambda: cases(seed=2, classes=("bcc", "nv", "mel")), "bcc, nv, mel in b"),
        (lambda: cases(seed=2).drop(columns="logit_mel"), "needs the columns id, group"),
        (lambda: cases(seed=2).assign(p_mel=np.nan), "follow from the logits"),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else "case",
)
def test_tables_that_cannot_be_combined_are_told(other, told):
    with pytest.raises(DataError, match=told):
        mean_logits({"a": cases(seed=1), "b": other()})


def test_a_softmax_and_a_sigmoid_cannot_be_averaged():
    tables = {"a": cases(classes=TWO), "b": cases(classes=TWO, output="sigmoid")}
    with pytest.raises(DataError, match="output softmax of a, got sigmoid in b"):
        mean_logits(tables)
