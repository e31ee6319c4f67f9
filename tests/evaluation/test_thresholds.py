"""Thresholds are the best of all cuts by their rule, found by trying every one."""

import numpy as np
import pytest

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import thresholds


def rows(n: int, seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * positive)))
    return positive, np.round(p, 1) if ties else p


def point(positive: np.ndarray, p: np.ndarray, cut: float) -> tuple[float, float]:
    return (p >= cut)[positive].mean(), (p < cut)[~positive].mean()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_each_rule_has_the_best_cut(seed: int, ties: bool) -> None:
    positive, p = rows(150, seed, ties=ties)
    points = {cut: point(positive, p, cut) for cut in set(p)}
    found = {one.rule: one for one in thresholds.choose(positive, p, miss_cost=3)}
    assert set(found) == {"youden", "sensitivity", "cost"}
    for one in found.values():
        assert (one.sensitivity, one.specificity) == pytest.approx(points[one.value])
    youden = found["youden"]
    assert youden.sensitivity + youden.specificity == pytest.approx(
        max(a + b for a, b in points.values())
    )
    assert found["sensitivity"].specificity == pytest.approx(
        max(b for a, b in points.values() if a >= 0.95)
    )

    def cost(sensitivity: float, specificity: float) -> float:
        return 3 * (1 - sensitivity) * positive.sum() + (1 - specificity) * (~positive).sum()

    cheapest = cost(found["cost"].sensitivity, found["cost"].specificity)
    assert cheapest == pytest.approx(min(cost(*one) for one in points.values()))


def test_a_cut_on_the_rows_it_was_chosen_on_does_what_it_says() -> None:
    positive, p = rows(100, 9, ties=True)
    for one in thresholds.choose(positive, p):
        assert thresholds.at(positive, p, one.value) == pytest.approx(
            (one.sensitivity, one.specificity)
        )


def test_dearer_misses_lower_the_cut() -> None:
    positive, p = rows(400, 1, ties=False)
    cuts = [
        next(t.value for t in thresholds.choose(positive, p, miss_cost=c) if t.rule == "cost")
        for c in (0.2, 1, 5, 50)
    ]
    assert cuts == sorted(cuts, reverse=True)
    assert cuts[0] > cuts[-1]


@pytest.mark.parametrize("positive", [np.zeros(3, dtype=bool), np.ones(3, dtype=bool)])
def test_one_class_alone_has_no_threshold(positive: np.ndarray) -> None:
    assert thresholds.choose(positive, np.array([0.1, 0.2, 0.3])) == ()
    assert None in thresholds.at(positive, np.array([0.1, 0.2, 0.3]), 0.5)


@pytest.mark.parametrize(
    ("p", "cost", "told"),
    [
        ([0.1, np.nan], 1, "1 that are not finite"),
        ([0.1], 1, r"shape \(1,\)"),
        ([0.1, 0.2], 0, "above 0, got 0"),
        ([0.1, 0.2], np.nan, "above 0, got nan"),
    ],
)
def test_bad_values_are_refused(p, cost, told) -> None:
    with pytest.raises(DataError, match=told):
        thresholds.choose(np.array([True, False]), p, miss_cost=cost)
