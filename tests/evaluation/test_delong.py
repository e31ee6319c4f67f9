"""The closed form against sums over all pairs, and against the bootstrap."""

import numpy as np
import pytest

from histo_mlflow.evaluation.bootstrap import draws
from histo_mlflow.evaluation.delong import auc_interval, covariance
from histo_mlflow.evaluation.replicates import rank, ranking


def rows(n: int, seed: int, n_groups: int, *, ties: bool = False):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n)
    positive = rng.random(n) < 0.4
    shared = rng.normal(size=n_groups)[groups]
    scores = [positive + shared + rng.normal(size=n), 0.5 * positive + shared + rng.normal(size=n)]
    return positive, [np.round(s) if ties else s for s in scores], groups


def placements(positive, scores):
    """How often each positive beats the negatives, and each negative loses, pair by pair."""
    up, down = scores[positive], scores[~positive]
    wins = np.where(up[:, None] > down, 1.0, np.where(up[:, None] == down, 0.5, 0.0))
    return wins.mean(axis=1), wins.mean(axis=0)


@pytest.mark.parametrize("ties", [False, True])
def test_the_covariance_is_that_of_delong_1988(ties: bool) -> None:
    positive, scores, _ = rows(70, 0, 70, ties=ties)
    pairs = [placements(positive, s) for s in scores]
    m, n = positive.sum(), (~positive).sum()
    expected = (
        np.cov(np.stack([v10 for v10, _ in pairs])) / m
        + np.cov(np.stack([v01 for _, v01 in pairs])) / n
    )
    aucs, found = covariance(positive, scores)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(aucs, [v10.mean() for v10, _ in pairs], rtol=1e-12)


def test_by_group_it_is_the_sum_over_groups_of_obuchowski_1997() -> None:
    positive, scores, groups = rows(80, 1, 20)
    v10, v01 = placements(positive, scores[0])
    m, n = positive.sum(), (~positive).sum()
    auc = v10.mean()
    x, y = np.zeros(20), np.zeros(20)
    np.add.at(x, groups[positive], v10 - auc)
    np.add.at(y, groups[~positive], v01 - auc)
    ups, downs = len(set(groups[positive])), len(set(groups[~positive]))
    every = len(set(groups))
    expected = (
        ups / (ups - 1) * (x**2).sum() / m**2
        + downs / (downs - 1) * (y**2).sum() / n**2
        + 2 * every / (every - 1) * (x * y).sum() / (m * n)
    )
    assert covariance(positive, scores[:1], groups)[1][0, 0] == pytest.approx(expected, rel=1e-10)


def test_the_closed_form_and_the_bootstrap_agree() -> None:
    positive, scores, groups = rows(1500, 2, 400)
    drawn_from = draws(groups, 1500, replicates=2000)
    ranked = rank(positive, scores[0], drawn_from.codes)
    drawn = np.concatenate([ranking(ranked, c)["auc"] for c in drawn_from.chunks()])
    spread = np.sqrt(covariance(positive, scores[:1], groups)[1][0, 0])
    assert spread == pytest.approx(drawn.std(), rel=0.06)


def test_the_interval_stays_within_zero_and_one() -> None:
    positive = np.array([True, True, True, False, False, False])
    found = auc_interval(positive, np.array([5.0, 4.0, 2.5, 3.0, 1.0, 0.0]))
    assert 0 < found.low < found.value < found.high < 1


@pytest.mark.parametrize(
    ("positive", "scores", "groups"),
    [
        ([True, False, False], [1.0, 0.0, 0.5], None),  # one positive
        ([True, True, True], [1.0, 0.0, 0.5], None),  # no negative
        ([True, True, False, False], [1.0, 0.0, 0.5, 0.2], ["a"] * 4),  # one group
    ],
)
def test_what_has_no_variance_has_no_interval(positive, scores, groups) -> None:
    found = auc_interval(np.array(positive), np.array(scores), groups)
    assert (found.low, found.high) == (None, None)
    assert found.why


def test_a_perfect_order_has_no_interval() -> None:
    found = auc_interval(np.array([True, True, False, False]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert (found.value, found.low, found.why) == (1.0, None, "no variance in the sample")
