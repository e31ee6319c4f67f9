"""Every metric of every draw is what scikit-learn says of the drawn rows, one draw at a time."""

import numpy as np
import pytest
import sklearn.metrics as reference

from histo_mlflow.evaluation import metrics
from histo_mlflow.evaluation.bootstrap import draws
from histo_mlflow.evaluation.measured import sample_of
from histo_mlflow.evaluation.predictions import predictions_table
from histo_mlflow.evaluation.probabilities import log_odds, log_probabilities
from histo_mlflow.evaluation.replicates import replicate, sample


def table(n: int, classes: int, seed: int, *, output: str = "softmax", ties: bool = False):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    truth[:classes] = np.arange(classes)
    logits = rng.normal(0, 2, (n, 1 if output == "sigmoid" else classes))
    if output == "sigmoid":
        logits[:, 0] += 2.0 * truth
    else:
        logits[np.arange(n), truth] += 1.5
    if ties:
        logits = np.round(logits)
    groups = [f"g{g}" for g in rng.integers(0, max(2, n // 4), n)]
    names = [f"c{k}" for k in range(classes)]
    return predictions_table(
        [f"i{i}" for i in range(n)], groups, ["test"] * n, truth, logits, names, output
    )


def replicates_of(rows, drawn_from):
    parts = [sample_of(rows, drawn_from).of(counts) for counts in drawn_from.chunks()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def drawn_rows(rows, drawn_from, replicate: int):
    """The rows of one draw, each as often as its group was drawn: the brute-force bootstrap."""
    counts = np.concatenate(list(drawn_from.chunks()))[replicate]
    return rows.iloc[np.repeat(np.arange(len(rows)), counts[drawn_from.codes])]


@pytest.mark.parametrize(
    ("classes", "output", "ties"),
    [(2, "softmax", False), (2, "sigmoid", True), (4, "softmax", False), (4, "softmax", True)],
)
def test_replicates_agree_with_a_bootstrap_by_hand(classes, output, ties) -> None:
    rows = table(160, classes, 3, output=output, ties=ties)
    names = [f"c{k}" for k in range(classes)]
    drawn_from = draws(rows["group"], len(rows), replicates=25, seed=7)
    found = replicates_of(rows, drawn_from)
    for b in range(25):
        again = drawn_rows(rows, drawn_from, b)
        truth = again["label"].map(names.index).to_numpy()
        logits = again.filter(regex="^logit").to_numpy()
        expected = metrics.summary(truth, logits, output, names)
        for name, value in expected.items():
            key = f"auc_{names.index(name[4:])}" if name.startswith("auc_") else name
            assert found[key][b] == pytest.approx(value, abs=1e-9), (b, name)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_weighted_auc_is_that_of_scikit_learn(classes: int) -> None:
    rows = table(400, classes, 5)
    drawn_from = draws(rows["group"], len(rows), replicates=10)
    counts = np.concatenate(list(drawn_from.chunks()))[:, drawn_from.codes]
    scores = log_odds(rows.filter(regex="^logit").to_numpy(), "softmax")
    found = replicates_of(rows, drawn_from)
    for c in [1] if classes == 2 else range(classes):
        name = "auc" if classes == 2 else f"auc_{c}"
        for b in range(10):
            expected = reference.roc_auc_score(
                rows["label"] == f"c{c}", scores[:, c], sample_weight=counts[b]
            )
            assert found[name][b] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 6])
def test_precision_and_recall_by_class_are_those_of_scikit_learn(classes: int) -> None:
    rows = table(200, classes, 9)
    drawn_from = draws(rows["group"], len(rows), replicates=5)
    found = replicates_of(rows, drawn_from)
    for b in range(5):
        again = drawn_rows(rows, drawn_from, b)
        precision, recall, *_ = reference.precision_recall_fscore_support(
            again["label"], again["predicted"], labels=[f"c{k}" for k in range(classes)]
        )
        if classes == 2:
            assert found["sensitivity"][b] == pytest.approx(recall[1])
            assert found["specificity"][b] == pytest.approx(recall[0])
            assert found["precision"][b] == pytest.approx(precision[1])
        else:
            for c in range(classes):
                assert found[f"recall_{c}"][b] == pytest.approx(recall[c])
                assert found[f"precision_{c}"][b] == pytest.approx(precision[c])


def test_the_rows_as_they_are_have_the_metrics_of_the_summary() -> None:
    rows = table(300, 3, 1)
    whole = sample_of(rows, draws(rows["group"], len(rows))).whole()
    truth = rows["label"].map(["c0", "c1", "c2"].index).to_numpy()
    logits = rows.filter(regex="^logit").to_numpy()
    for name, value in metrics.summary(truth, logits, "softmax", ["0", "1", "2"]).items():
        assert whole[name] == pytest.approx(value, abs=1e-12), name


def test_a_draw_without_a_class_is_undefined_and_not_one_half() -> None:
    truth, logits = np.array([0, 0, 0, 1]), np.array([[0.0], [1.0], [2.0], [3.0]])
    probs = 1 / (1 + np.exp(-logits))
    drawn_from = draws(None, 4, replicates=200)
    losses = -log_probabilities(logits, "sigmoid")[np.arange(4), truth]
    found = replicate(
        truth, np.hstack([1 - probs, probs]), losses, np.hstack([-logits, logits]), drawn_from
    )
    drawn = np.concatenate(list(drawn_from.chunks()))
    without = (drawn[:, 3] == 0) | (drawn[:, :3].sum(axis=1) == 0)
    assert without.any()
    for name in ("auc", "average_precision", "sensitivity_at_95_specificity"):
        np.testing.assert_array_equal(np.isnan(found[name]), without)


def test_with_ten_thousand_classes_only_what_needs_no_class_is_replicated() -> None:
    n, k = 40, 10_000
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(k), n)
    truth = rng.integers(0, k, n)
    rows = sample(truth, probs, -np.log(probs[np.arange(n), truth]), probs, draws(None, n))
    assert set(rows.whole()) == {"accuracy", "brier", "log_loss", "ece"}


def test_a_metric_rests_on_the_groups_that_hold_its_class() -> None:
    # 4 groups of 3 rows; all of class 1 are in two of them, 2 + 1
    rows = table(12, 2, 0).assign(group=[f"g{i // 3}" for i in range(12)])
    rows["label"] = ["c1", "c1", "c0", "c1", *["c0"] * 8]
    found = sample_of(rows, draws(rows["group"], 12)).effective_groups()
    assert found["accuracy"] == pytest.approx(4)
    assert found["sensitivity"] == pytest.approx(3**2 / (2**2 + 1**2))
    assert found["auc"] == found["sensitivity"]
    assert found["specificity"] == pytest.approx(9**2 / (1 + 4 + 9 + 9))


def test_of_many_classes_the_rarest_weighs_most() -> None:
    rows = table(200, 4, 2)
    found = sample_of(rows, draws(rows["group"], 200)).effective_groups()
    each = [found[f"auc_{c}"] for c in range(4)]
    assert min(each) <= found["auc"] <= np.mean(each)
    assert found["auc"] == pytest.approx(4 / sum(1 / one for one in each))
