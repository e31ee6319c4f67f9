"""Differences of models on the same images, against scikit-learn on the same draws by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference

import finished_runs
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.bootstrap import draws, expanded_tail
from histo_mlflow.evaluation.compare import Comparison, paired
from histo_mlflow.evaluation.measured import sample_of

TWO = ("benign", "malignant")


def cases(seed: int, skill: float = 1.0, **more) -> pd.DataFrame:
    return finished_runs.cases(240, seed=seed, skill=skill, per_group=3, **more)


def with_sklearn(table: pd.DataFrame, rows: np.ndarray) -> dict[str, float]:
    """Metrics of a table's resampled rows, in the words of scikit-learn."""
    drawn = table.iloc[rows]
    classes = list(predictions.classes_of(table))
    truth, p = predictions.targets_of(drawn), predictions.probabilities_of(drawn)
    said = p.argmax(axis=1)
    one_hot = np.eye(len(classes), dtype=int)[truth]
    found = {
        "accuracy": reference.accuracy_score(truth, said),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, said),
        "log_loss": reference.log_loss(truth, p, labels=range(len(classes))),
    }
    if len(classes) == 2:
        return found | {
            "auc": reference.roc_auc_score(truth, p[:, 1]),
            "average_precision": reference.average_precision_score(truth, p[:, 1]),
            "f1": reference.f1_score(truth, said),
            "brier": reference.brier_score_loss(truth, p[:, 1]),
        }
    return found | {
        "auc": reference.roc_auc_score(truth, p, multi_class="ovr", average="macro"),
        "average_precision": reference.average_precision_score(one_hot, p, average="macro"),
        "f1": reference.f1_score(truth, said, average="macro"),
        "brier": float(((p - one_hot) ** 2).sum(axis=1).mean()),
    }


def by_hand(a: pd.DataFrame, b: pd.DataFrame, groups: object, replicates: int) -> dict:
    """Difference and interval of each metric, one draw after the other."""
    drawn_from = draws(groups, len(a), replicates=replicates, seed=4)
    gaps = []
    for counts in drawn_from.chunks():
        for one in counts:
            rows = np.repeat(np.arange(len(a)), one[drawn_from.codes])
            first, second = with_sklearn(a, rows), with_sklearn(b, rows)
            gaps.append({name: second[name] - first[name] for name in first})
    # the naive interval counts every image as a group of equal size
    effective = {} if groups is None else sample_of(a, drawn_from).effective_groups()
    everything = np.arange(len(a))
    whole = {name: with_sklearn(b, everything)[name] - v for name, v in
             with_sklearn(a, everything).items()}  # fmt: skip
    table = pd.DataFrame(gaps)
    found = {}
    for name in table.columns:
        tail = expanded_tail(effective.get(name, drawn_from.n_groups), 0.95)
        found[name] = (whole[name], *np.quantile(table[name], [tail, 1 - tail]))
    return found


@pytest.mark.parametrize(
    ("classes", "output"),
    [(TWO, "sigmoid"), (TWO, "softmax"), (finished_runs.CLASSES, "softmax")],
)
def test_differences_and_intervals_are_those_of_the_same_draws_by_hand(classes, output):
    a, b = (cases(seed, classes=classes, output=output) for seed in (1, 2))
    found = paired({"a": a, "b": b.sample(frac=1, random_state=3)}, replicates=25, seed=4)
    a, b = predictions.of_split(a, "test"), predictions.of_split(b, "test")

    grouped, naive = by_hand(a, b, a["group"], 25), by_hand(a, b, None, 25)
    for metric, (gap, low, high) in grouped.items():
        first, second = found.named(metric)
        assert first.difference is None
        assert second.difference == pytest.approx(second.value - first.value, abs=1e-15)
        got = (second.difference, second.difference_low, second.difference_high)
        assert got == pytest.approx((gap, low, high), abs=1e-9), metric
        assert (second.naive_low, second.naive_high) == pytest.approx(naive[metric][1:], abs=1e-9)


def test_a_table_against_itself_differs_by_nothing_exactly():
    a = cases(1)
    found = paired({"a": a, "again": a.sample(frac=1, random_state=0)})
    for one in found.differences:
        if one.name == "again":
            ends = (one.difference, one.difference_low, one.difference_high, one.naive_low)
            assert (*ends, one.naive_high) == (0.0,) * 5, one.metric
            assert one.verdict == "no clear difference"


def test_rounding_is_no_difference():
    a = cases(1)
    shifted = predictions.predictions_table(
        a["id"].tolist(), a["group"].tolist(), a["split"].tolist(), predictions.targets_of(a),
        predictions.logits_of(a) + 0.1, predictions.classes_of(a), "softmax",
    )  # fmt: skip
    found = paired({"a": a, "shifted": shifted})
    assert {one.verdict for one in found.differences} == {None, "no clear difference"}


def test_a_clearly_better_model_is_found_whichever_way_a_metric_is_better():
    found = paired({"weak": cases(1, 0.3), "strong": cases(2, 3.0), "same": cases(3, 0.3)})
    for metric in ("auc", "accuracy", "log_loss", "brier"):
        base, strong, same = found.named(metric)
        assert (base.verdict, strong.verdict) == (None, "better")
        assert same.verdict == "no clear difference"
    assert found.named("log_loss")[1].difference_high < 0
    back = paired({"strong": cases(2, 3.0), "weak": cases(1, 0.3)})
    assert {back.named(metric)[1].verdict for metric in ("auc", "brier")} == {"worse"}


def test_pairing_makes_the_interval_shorter_than_two_intervals_suggest():
    a = cases(1)
    near = predictions.predictions_table(
        a["id"].tolist(), a["group"].tolist(), a["split"].tolist(), predictions.targets_of(a),
        predictions.logits_of(a) + np.random.default_rng(0).normal(0, 0.2, (240, 3)),
        predictions.classes_of(a), "softmax",
    )  # fmt: skip
    _, second = paired({"a": a, "near": near}).named("auc")
    assert second.difference_high - second.difference_low < 0.5 * (second.high - second.low)


def test_delong_stands_beside_for_two_classes_only():
    a, b = cases(1, classes=TWO), cases(2, classes=TWO)
    (one,) = paired({"a": a, "b": b}).delong
    boot = paired({"a": a, "b": b}).named("auc")[1]
    assert one.difference == pytest.approx(boot.difference, abs=1e-12)
    assert (one.low, one.high) == pytest.approx(
        (boot.difference_low, boot.difference_high), abs=0.015
    )
    assert one.low < one.naive_low or one.high > one.naive_high or one.p != one.naive_p
    assert paired({"a": cases(1), "b": cases(2)}).delong == ()


def test_delong_is_the_variance_over_all_pairs_of_rows_by_hand():
    a, b = (predictions.of_split(cases(s, classes=TWO), "test") for s in (1, 2))
    (found,) = paired({"a": a, "b": b}).delong
    positive = predictions.targets_of(a) == 1
    parts = []
    for table in (a, b):
        s = predictions.probabilities_of(table)[:, 1]
        won = (s[positive][:, None] > s[~positive]) + 0.5 * (s[positive][:, None] == s[~positive])
        parts.append((won.mean(axis=1), won.mean(axis=0)))
    up, down = parts[1][0] - parts[0][0], parts[1][1] - parts[0][1]
    error = np.sqrt(up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down))
    assert (found.naive_high - found.naive_low) / 2 == pytest.approx(1.959963984540054 * error)


def test_delong_of_equal_scores_has_no_interval_and_says_why():
    (one,) = paired({"a": cases(1, classes=TWO), "b": cases(1, classes=TWO)}).delong
    assert (one.difference, one.low, one.p) == (0.0, None, None)
    assert one.why.startswith("too few positives")


def test_a_softmax_and_a_sigmoid_of_the_same_classes_can_be_compared():
    found = paired(
        {"a": cases(1, classes=TWO), "b": cases(1, classes=TWO, output="sigmoid")}, replicates=50
    )
    assert found.named("auc")[1].difference is not None


def test_only_common_images_of_the_split_count_and_the_rest_is_told():
    a, b = cases(1), cases(2)
    fewer = b[b["id"] != "i0200"]
    moved = fewer.assign(split=fewer["split"].where(fewer["id"] != "i0201", "val"))
    found = paired({"a": a, "b": moved}, replicates=20)

    assert (found.rows, found.groups) == (118, 40)
    assert found.left_out == {"a": 2, "b": 0}
    assert found.notes[0].endswith("not all have are left out: 2 of a, 0 of b")
    both = {"a": a[~a["id"].isin(["i0200", "i0201"])], "b": moved}
    again = paired(both, replicates=20)
    assert again.named("auc") == found.named("auc")


def relabelled(column: str, value: str) -> pd.DataFrame:
    table = cases(2)
    return table.assign(**{column: table[column].where(table["id"] != "i0200", value)})


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda: cases(2).assign(id=lambda t: "x" + t["id"]), "got none: a 120, b 120"),
        (lambda: cases(2).assign(split="val"), "Expected predictions of the split 'test'"),
        (lambda: cases(2)[:0], "the table has: no rows at all"),
        (lambda: cases(2).drop(columns="group"), "needs the columns id, group"),
        (lambda: cases(2).assign(logit_mel=np.nan), "finite logits"),
        (lambda: cases(2, classes=("bcc", "nv", "mel")), "bcc, nv, mel in b"),
        (lambda: cases(2, classes=TWO), "got benign, malignant in b"),
        (lambda: relabelled("group", "other"), "same group of an image everywhere, but 1 of 120"),
        (
            lambda: relabelled("label", "bcc" if cases(2)["label"][200] != "bcc" else "nv"),
            "same label of an image everywhere, but 1 of 120 differ: i0200 is",
        ),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else "case",
)
def test_tables_that_cannot_be_compared_are_told(other, told):
    with pytest.raises(DataError, match=told):
        paired({"a": cases(1), "b": other()})


def test_one_table_alone_is_told():
    with pytest.raises(DataError, match="two tables of predictions or more to compare, got 1"):
        paired({"a": cases(1)})


def undefined(found: Comparison, metric: str) -> set[object]:
    return {(one.difference, one.difference_low, one.verdict) for one in found.named(metric)[1:]}


def test_one_class_leaves_what_needs_two_undefined():
    only = [cases(s, classes=TWO).query("label == 'malignant'") for s in (1, 2)]
    found = paired({"a": only[0], "b": only[1]}, replicates=50)
    assert undefined(found, "auc") == {(None, None, "undefined")}
    assert found.named("accuracy")[1].verdict in ("better", "worse", "no clear difference")
    assert found.delong[0].difference is None
    assert "auc is undefined on these images for b" in found.notes


def test_one_group_has_differences_but_no_interval():
    found = paired({"a": cases(1).assign(group="g"), "b": cases(2, 3.0).assign(group="g")})
    _, second = found.named("auc")
    assert second.difference > 0
    assert (second.difference_low, second.verdict) == (None, "undefined")
    assert second.why == "one group cannot tell how groups differ"
    assert second.naive_low is not None
    assert any(note.startswith("only 1 group") for note in found.notes)


def test_the_comparison_is_json_with_nulls_and_one_row_a_metric_and_model():
    found = paired({"a": cases(1), "b": cases(2)}, replicates=30)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (told["baseline"], told["rows"], told["groups"]) == ("a", 120, 40)
    assert {"metric", "class", "better", "difference", "verdict"} <= told["metrics"][0].keys()
    frame = found.to_frame()
    assert len(frame) == len(found.differences)
    assert frame["metric"].tolist()[:2] == ["auc", "auc"]
    assert [one.better for one in found.named("brier")] == ["lower", "lower"]
    with pytest.raises(DataError, match="Expected a metric that was computed, got 'mcc'"):
        found.named("mcc")


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    tables = {"a": cases(1), "b": cases(2)}
    one, again, other = (paired(tables, replicates=50, seed=s) for s in (1, 1, 2))
    assert one.differences == again.differences
    assert one.differences != other.differences


@pytest.mark.slow
def test_the_interval_of_a_difference_covers_the_truth_in_clustered_data():
    """Two models of equal worth on 60 groups of 5: the difference of accuracies is 0."""
    covered, naive = 0, 0
    times = 200
    for time in range(times):
        rng = np.random.default_rng([5, time])
        truth = rng.integers(0, 2, 300)
        tables = {}
        for name in "ab":
            # what a model thinks of a group is shared by its images
            shared = np.repeat(rng.normal(0, 1.5, 60), 5)
            logits = (2 * truth - 1) * (0.5 + shared) + rng.normal(0, 1, 300)
            tables[name] = predictions.predictions_table(
                [f"i{i}" for i in range(300)], [f"g{i // 5}" for i in range(300)],
                ["test"] * 300, truth, logits[:, None], TWO, "sigmoid",
            )  # fmt: skip
        _, one = paired(tables, replicates=300).named("accuracy")
        covered += one.difference_low <= 0 <= one.difference_high
        naive += one.naive_low <= 0 <= one.naive_high
    assert 0.91 <= covered / times <= 0.99
    assert naive / times < 0.85
