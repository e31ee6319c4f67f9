"""Metrics against scikit-learn and against counting by hand."""

import warnings

import numpy as np
import pytest
import sklearn.metrics as reference

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import metrics
from histo_mlflow.evaluation.probabilities import log_odds, probabilities

RANKING = (metrics.auc, metrics.per_class_auc, metrics.average_precision)
DECIDING = (metrics.accuracy, metrics.balanced_accuracy, metrics.f1)
ALWAYS = {"accuracy", "balanced_accuracy", "f1", "brier", "ece", "log_loss"}
RANKED = {
    "auc",
    "average_precision",
    "sensitivity_at_95_specificity",
    "specificity_at_95_sensitivity",
}


def pairs_won(positive: np.ndarray, scores: np.ndarray) -> float:
    """The share of (positive, negative) pairs in the right order, ties one half."""
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[positive]
        for n in scores[~positive]
    ]
    return float(np.mean(wins))


def precision_by_steps(positive: np.ndarray, scores: np.ndarray) -> float:
    """Sum of precision times gained recall over the distinct thresholds, from the highest on."""
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        said = scores >= threshold
        recall = positive[said].sum() / positive.sum()
        area += (recall - recall_before) * positive[said].mean()
        recall_before = recall
    return float(area)


def drawn(n: int, classes: int, seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = rng.normal(0, 1.5, (n, classes))
    logits[np.arange(n), targets] += 1
    return targets, np.round(logits) if ties else logits


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_agrees_with_scikit_learn(classes: int, seed: int, ties: bool) -> None:
    targets, logits = drawn(300, classes, seed, ties=ties)
    probs = probabilities(logits, "softmax")
    one_hot = np.eye(classes, dtype=int)[targets]
    said = probs.argmax(axis=1)
    if classes == 2:
        expected_auc = reference.roc_auc_score(targets, probs[:, 1])
        expected_ap = reference.average_precision_score(targets, probs[:, 1])
    else:
        expected_auc = reference.roc_auc_score(targets, probs, multi_class="ovr", average="macro")
        expected_ap = reference.average_precision_score(one_hot, probs, average="macro")
    close = pytest.approx
    assert metrics.auc(targets, probs) == close(expected_auc, abs=1e-12)
    assert metrics.average_precision(targets, probs) == close(expected_ap, abs=1e-12)
    assert metrics.accuracy(targets, probs) == reference.accuracy_score(targets, said)
    assert metrics.balanced_accuracy(targets, probs) == close(
        reference.balanced_accuracy_score(targets, said), abs=1e-12
    )
    assert metrics.log_loss(targets, logits, "softmax") == close(
        reference.log_loss(targets, probs), abs=1e-12
    )
    np.testing.assert_array_equal(
        metrics.confusion_counts(targets, said, classes),
        reference.confusion_matrix(targets, said, labels=range(classes)),
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_ranking_metrics_agree_with_counting_by_hand(classes: int, ties: bool) -> None:
    targets, logits = drawn(60, classes, 5, ties=ties)
    scores = log_odds(logits, "softmax")
    by_class = [pairs_won(targets == k, scores[:, k]) for k in range(classes)]
    steps = [precision_by_steps(targets == k, scores[:, k]) for k in range(classes)]
    assert metrics.per_class_auc(targets, scores) == pytest.approx(by_class, abs=1e-12)
    one = by_class[1] if classes == 2 else np.mean(by_class)
    assert metrics.auc(targets, scores) == pytest.approx(one, abs=1e-12)
    area = steps[1] if classes == 2 else np.mean(steps)
    assert metrics.average_precision(targets, scores) == pytest.approx(area, abs=1e-12)


def test_equal_scores_everywhere_are_a_half_since_that_is_what_they_are_worth() -> None:
    assert metrics.auc([0, 1, 1], np.full((3, 2), 0.5)) == 0.5


def test_log_odds_give_the_auc_of_probabilities_that_do_not_saturate() -> None:
    targets, logits = drawn(200, 5, 9, ties=False)
    assert metrics.auc(targets, log_odds(logits, "softmax")) == pytest.approx(
        metrics.auc(targets, probabilities(logits, "softmax")), abs=1e-12
    )


def test_the_summary_ranks_logits_that_float32_and_float64_sigmoids_call_equal() -> None:
    logits = np.array([[50.0], [60.0], [70.0], [80.0]])
    found = metrics.summary([0, 0, 1, 1], logits, "sigmoid", ("normal", "tumour"))
    assert found["auc"] == 1.0
    assert found["accuracy"] == 0.5


def test_log_loss_of_a_sure_mistake_is_the_logit_and_not_a_clipped_number() -> None:
    assert metrics.log_loss([0], [[1000.0]], "sigmoid") == 1000.0
    assert metrics.log_loss([1, 0], [[800.0, 0.0], [0.0, 0.0]], "softmax") == pytest.approx(
        (800 + np.log(2)) / 2
    )


def test_the_two_kinds_of_output_give_the_same_summary_for_the_same_probabilities() -> None:
    targets, logits = drawn(100, 2, 3, ties=False)
    two = metrics.summary(targets, logits, "softmax", ("a", "b"))
    one = metrics.summary(targets, logits[:, 1:] - logits[:, :1], "sigmoid", ("a", "b"))
    assert one == pytest.approx(two, abs=1e-12)


def test_a_class_that_is_absent_leaves_its_auc_and_the_macro_undefined() -> None:
    targets, logits = drawn(50, 4, 2, ties=False)
    targets[targets == 2] = 0
    scores = log_odds(logits, "softmax")
    assert metrics.auc(targets, scores) is None
    assert metrics.average_precision(targets, scores) is None
    by_class = metrics.per_class_auc(targets, scores)
    assert [value is None for value in by_class] == [False, False, True, False]
    found = metrics.summary(targets, logits, "softmax", ("a", "b", "c", "d"))
    assert set(found) == {*ALWAYS, "auc_a", "auc_b", "auc_d"}


@pytest.mark.parametrize("classes", [2, 5])
def test_f1_agrees_with_scikit_learn(classes: int) -> None:
    targets, logits = drawn(80, classes, 4, ties=False)
    probs = probabilities(logits, "softmax")
    how = {"pos_label": 1} if classes == 2 else {"average": "macro"}
    expected = reference.f1_score(targets, probs.argmax(axis=1), **how)
    assert metrics.f1(targets, probs) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_sensitivity_at_95_specificity_is_that_of_the_best_allowed_cut(ties: bool) -> None:
    targets, logits = drawn(120, 3, 5, ties=ties)
    scores = log_odds(logits, "softmax")

    def best(positive: np.ndarray, values: np.ndarray) -> tuple[float, float]:
        cuts = [*sorted(set(values)), np.inf]
        points = [((values >= c)[positive].mean(), (values < c)[~positive].mean()) for c in cuts]
        return (
            max(sensitivity for sensitivity, specificity in points if specificity >= 0.95),
            max(specificity for sensitivity, specificity in points if sensitivity >= 0.95),
        )

    expected = np.mean([best(targets == k, scores[:, k]) for k in range(3)], axis=0)
    assert metrics.sensitivity_at_specificity(targets, scores) == pytest.approx(expected[0])
    assert metrics.specificity_at_sensitivity(targets, scores) == pytest.approx(expected[1])


def test_balanced_accuracy_averages_the_classes_that_occur() -> None:
    targets, probs = np.array([0, 0, 1]), np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0.0]])
    assert metrics.balanced_accuracy(targets, probs) == 0.75
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says so aloud
        assert reference.balanced_accuracy_score(targets, probs.argmax(axis=1)) == 0.75


def test_one_class_alone_has_no_auc_and_raises_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.summary([1, 1], [[2.0], [-1.0]], "sigmoid", ("a", "b"))
    assert set(found) == ALWAYS
    assert found["accuracy"] == 0.5


def test_one_row_is_enough_for_what_one_row_defines() -> None:
    found = metrics.summary([2], [[0.0, 0.0, 5.0]], "softmax", ("a", "b", "c"))
    top = np.exp(5) / (2 + np.exp(5))
    assert found == {
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "f1": 1.0,
        "brier": pytest.approx((1 - top) ** 2 + 2 * (top / np.exp(5)) ** 2),
        "ece": pytest.approx(1 - top),
        "log_loss": pytest.approx(np.log1p(2 * np.exp(-5))),
    }


def test_a_tie_is_decided_for_the_first_class() -> None:
    assert metrics.accuracy([0, 1], [[0.5, 0.5], [0.5, 0.5]]) == 0.5


def test_the_summary_holds_plain_finite_floats() -> None:
    targets, logits = drawn(40, 3, 1, ties=False)
    found = metrics.summary(targets, logits.astype(np.float32), "softmax", ("a", "b", "c"))
    assert all(type(value) is float and np.isfinite(value) for value in found.values())
    assert set(found) == {*ALWAYS, *RANKED, "auc_a", "auc_b", "auc_c"}


@pytest.mark.parametrize("metric", [*RANKING, *DECIDING])
def test_nan_is_an_error_that_names_the_row(metric) -> None:
    with pytest.raises(DataError, match=r"first: row 1\)"):
        metric([0, 1], [[0.1, 0.9], [np.nan, 0.5]])


@pytest.mark.parametrize("metric", [*RANKING, *DECIDING])
@pytest.mark.parametrize(
    ("targets", "scores", "told"),
    [
        ([], np.zeros((0, 2)), "at least one row"),
        ([0, 1], np.zeros((3, 2)), r"\(2,\) and \(3, 2\)"),
        ([0, 1], np.zeros(2), r"\(2,\) and \(2,\)"),
        ([0, 2], np.zeros((2, 2)), "from 0 to 1, got 0 to 2"),
        ([-1, 1], np.zeros((2, 2)), "from 0 to 1, got -1 to 1"),
        ([0.0, 1.0], np.zeros((2, 2)), "integers, got float64"),
    ],
)
def test_inputs_that_do_not_belong_together_are_refused(metric, targets, scores, told) -> None:
    with pytest.raises(DataError, match=told):
        metric(targets, scores)


def test_names_that_do_not_fit_the_logits_are_refused() -> None:
    with pytest.raises(DataError, match="3 class names"):
        metrics.summary([0], [[0.0, 1.0, 2.0]], "softmax", ("a", "b"))
