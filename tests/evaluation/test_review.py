"""The review queue against a confident joint counted by hand, and labels flipped on purpose."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.predictions import classes_of, predictions_table
from histo_mlflow.evaluation.review import estimated_noise, review_notes, review_queue


def table_of(p, targets, classes=None, attributes=None, groups=None) -> pd.DataFrame:
    n, k = np.shape(p)
    return predictions_table(
        [f"image {i:05}" for i in range(n)],
        groups or [f"lesion {i // 2}" for i in range(n)],
        ["val"] * n,
        np.asarray(targets),
        np.log(p),
        classes or list("abcdefgh")[:k],
        "softmax",
        attributes,
    )


HAND_P = [
    [0.8, 0.1, 0.1],  # a, sure of a
    [0.6, 0.3, 0.1],  # a, its threshold (0.8 + 0.6 + 0.1 + 0.5) / 4 = 0.5 is reached
    [0.1, 0.2, 0.7],  # a, but c's threshold 0.5 is reached
    [0.5, 0.1, 0.4],  # a, reached exactly
    [0.3, 0.6, 0.1],  # b, threshold (0.6 + 0.2) / 2 = 0.4
    [0.7, 0.2, 0.1],  # b, but a's threshold is reached
    [0.1, 0.3, 0.6],  # c, threshold (0.6 + 0.4) / 2 = 0.5
    [0.2, 0.4, 0.4],  # c, but b's threshold is reached, and not c's
]
HAND_TARGETS = [0, 0, 0, 0, 1, 1, 2, 2]


def test_the_queue_of_a_small_case_is_that_counted_by_hand():
    queue = review_queue(table_of(HAND_P, HAND_TARGETS))

    assert list(queue["rank"]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [int(name[-1]) for name in queue["id"]] == [2, 5, 7, 3, 1, 4, 6, 0]
    assert list(queue["issue"]) == [True] * 3 + [False] * 5
    assert list(queue["label"]) == ["a", "b", "c", "a", "a", "b", "c", "a"]
    assert list(queue["suggested"]) == ["c", "a", "b", "a", "a", "b", "c", "a"]
    np.testing.assert_allclose(queue["margin"], [-0.6, -0.5, 0, 0.1, 0.3, 0.3, 0.3, 0.7])
    np.testing.assert_allclose(queue["p_label"][:3], [0.1, 0.2, 0.4])
    np.testing.assert_allclose(queue["p_suggested"][:3], [0.7, 0.7, 0.4])


def test_the_noise_of_a_small_case_is_that_counted_by_hand():
    noise = estimated_noise(table_of(HAND_P, HAND_TARGETS))

    # the joint's rows: a 3 and 1 to c; b 1 and 1 to a; c 1 and 1 to b; all rows are in it
    assert noise.to_dict("list") == {
        "label": ["a", "b", "c"],
        "suggested": ["c", "a", "b"],
        "counted": [1, 1, 1],
        "estimated": [1.0, 1.0, 1.0],
        "share": [0.25, 0.5, 0.5],
    }


def joint_by_hand(p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The confident joint of Northcutt et al., row by row."""
    k = p.shape[1]
    of_class = [p[targets == j, j] for j in range(k)]
    thresholds = [values.mean() if len(values) else np.inf for values in of_class]
    joint = np.zeros((k, k), dtype=int)
    for row, label in zip(p, targets, strict=True):
        reached = [j for j in range(k) if row[j] >= thresholds[j]]
        if reached:
            joint[label, max(reached, key=lambda j: row[j])] += 1
    return joint


@pytest.mark.parametrize("absent", [False, True])
def test_joint_and_margins_are_those_of_a_walk_row_by_row(absent: bool):
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5) * 0.5, 400) + 1e-9
    p /= p.sum(axis=1, keepdims=True)
    targets = np.where(rng.random(400) < 0.6, p.argmax(axis=1), rng.integers(0, 5, 400))
    if absent:
        targets[targets == 3] = 0
    table = table_of(p, targets)

    queue, noise = review_queue(table), estimated_noise(table)

    joint = joint_by_hand(p, targets)
    names = classes_of(table)
    expected = {
        (names[i], names[j]): (joint[i, j], joint[i, j] / joint[i].sum() * (targets == i).sum())
        for i in range(5)
        for j in range(5)
        if i != j and joint[i, j]
    }
    told = {(r.label, r.suggested): (r.counted, r.estimated) for r in noise.itertuples()}
    assert told.keys() == expected.keys()
    np.testing.assert_allclose(list(told.values()), [expected[key] for key in told])
    assert list(noise["estimated"]) == sorted(noise["estimated"], reverse=True)
    assert queue["issue"].sum() == noise["counted"].sum()
    if absent:
        assert "d" not in set(queue.loc[queue["issue"], "suggested"])
        assert review_notes(table) == [
            "No image is labelled d: these are never an issue's suggestion."
        ]
    else:
        assert review_notes(table) == []
    for row in queue.itertuples():
        i = int(row.id[-5:])
        others = [p[i, j] for j in range(5) if j != targets[i]]
        assert row.margin == pytest.approx(p[i, targets[i]] - max(others))
    for part in (queue[queue["issue"]], queue[~queue["issue"]]):
        assert part["margin"].is_monotonic_increasing
    assert queue["issue"].is_monotonic_decreasing


def flipped_and_judged(seed: int) -> tuple[pd.DataFrame, set[str], float]:
    """2,400 images of 600 lesions in three unequal classes, 3 % of the labels wrong.

    Returns:
        The out-of-fold table with the wrong labels, the ids of those, and the macro AUC of the
        predictions against the right labels.
    """
    rng = np.random.default_rng(seed)
    of_lesion = rng.choice(3, 600, p=[0.7, 0.2, 0.1])
    centres = rng.normal(size=(3, 12)) * 0.6
    lesion = np.repeat(np.arange(600), 4)
    x = (centres[of_lesion] + rng.normal(size=(600, 12)))[lesion] + 0.5 * rng.normal(
        size=(2400, 12)
    )
    right = of_lesion[lesion]
    wrong = rng.random(2400) < 0.03
    labels = np.where(wrong, (right + rng.integers(1, 3, 2400)) % 3, right)
    p = np.zeros((2400, 3))
    for train, test in GroupKFold(5).split(x, labels, lesion):
        p[test] = (
            LogisticRegression(max_iter=500).fit(x[train], labels[train]).predict_proba(x[test])
        )
    auc = roc_auc_score(np.eye(3)[right], p, average="macro")
    table = table_of(p, labels, groups=[f"lesion {i}" for i in lesion])
    return table, {f"image {i:05}" for i in np.flatnonzero(wrong)}, float(auc)


def test_labels_flipped_on_purpose_are_at_the_head_of_the_queue():
    found, aucs = [], []
    for seed in range(5):
        table, flipped, auc = flipped_and_judged(seed)
        queue = review_queue(table)
        head = set(queue["id"][: len(queue) // 10])
        found.append(len(head & flipped) / len(flipped))
        aucs.append(auc)
        issues = queue[queue["issue"]]
        assert issues["id"].isin(flipped).mean() > 3 * len(flipped) / len(queue)

    assert 0.9 < np.mean(aucs) < 0.98
    assert np.mean(found) > 0.7  # chance finds 0.1
    assert min(found) > 0.5


def test_the_order_of_the_rows_plays_no_part():
    table, _, _ = flipped_and_judged(0)
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)

    pd.testing.assert_frame_equal(review_queue(shuffled), review_queue(table))
    pd.testing.assert_frame_equal(estimated_noise(shuffled), estimated_noise(table))


def test_what_is_known_of_an_image_comes_along():
    attributes = {"sex": ["female", None] * 4, "rank": list(range(8))}
    queue = review_queue(table_of(HAND_P, HAND_TARGETS, attributes=attributes))

    assert list(queue.columns[-2:]) == ["sex", "slice_rank"]
    assert list(queue["group"][:2]) == ["lesion 1", "lesion 2"]
    assert list(queue["slice_rank"][:3]) == [2, 5, 7]


def test_a_sigmoid_is_ranked_by_both_its_classes():
    z = np.array([[3.0], [-3.0], [-2.0], [2.5]])
    table = predictions_table(
        list("abcd"), list("abcd"), ["val"] * 4, [1, 0, 1, 0], z, ["no", "yes"], "sigmoid"
    )

    queue = review_queue(table)

    assert list(queue["id"][:2]) == ["d", "c"]
    assert list(queue["suggested"][:2]) == ["yes", "no"]
    assert list(queue["issue"]) == [True, True, False, False]


def test_a_model_that_tells_no_rows_apart_finds_nothing_wrong():
    table = table_of(np.full((7, 3), 1 / 3), [0, 1, 2, 0, 1, 2, 2])

    assert not review_queue(table)["issue"].any()
    assert estimated_noise(table).empty


def test_a_table_without_wrong_labels_has_an_empty_noise_table():
    p = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]]
    table = table_of(p, [0, 0, 1, 1])

    noise = estimated_noise(table)

    assert noise.empty
    assert list(noise.columns) == ["label", "suggested", "counted", "estimated", "share"]
    assert not review_queue(table)["issue"].any()


def test_ten_thousand_classes_need_no_square_of_them():
    rng = np.random.default_rng(0)
    k, n = 10_000, 60
    z = rng.normal(size=(n, k))
    targets = rng.integers(0, k, n)
    z[np.arange(n), targets] += 8
    wrong = targets.copy()
    wrong[:6] = targets[6:12]
    names = [f"class {i}" for i in range(k)]
    text = [f"{i}" for i in range(n)]
    table = predictions_table(text, text, ["val"] * n, wrong, z, names, "softmax")

    queue = review_queue(table)

    assert {"0", "1", "2", "3", "4", "5"} == set(queue["id"][:6])
    told = review_notes(table)[0]
    assert told.startswith("No image is labelled class 0, ")
    assert " more: " in told
    assert len(estimated_noise(table)) <= n


def test_one_label_only_and_no_rows_are_refused():
    with pytest.raises(DataError, match=r"two or more classes .* got 3 rows all labelled 'b'"):
        review_queue(table_of([[0.4, 0.6]] * 3, [1, 1, 1]))
    with pytest.raises(DataError, match="at least one row"):
        estimated_noise(table_of(HAND_P, HAND_TARGETS).iloc[:0])


def test_nan_is_refused():
    table = table_of(HAND_P, HAND_TARGETS)
    table.loc[3, "p_b"] = np.nan
    with pytest.raises(DataError, match="1 of 8 rows hold NaN"):
        review_queue(table)
