"""Bands are the quantiles of the curves of drawn groups, as a plain loop would find them."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from histo_mlflow.evaluation._bands import (
    FALSE_POSITIVE_RATES,
    RECALLS,
    precision_band,
    roc_band,
)
from histo_mlflow.evaluation.bootstrap import draws, expanded_tail


def clustered(n_groups: int, *, ties: bool, seed: int = 3):
    """Positive or not, score and group of some 2 n rows; rows of a group resemble each other."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 4, n_groups))
    positive = (rng.random(n_groups) < 0.4)[groups]
    scores = 1.2 * positive + rng.normal(0, 1, n_groups)[groups] + rng.normal(0, 0.5, len(groups))
    return positive, np.round(scores, 0 if ties else 9), groups


def true_positive_rates(positive, scores):
    """The upper end of the polygon at each false positive rate."""
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    found = []
    for f in FALSE_POSITIVE_RATES:
        j = np.flatnonzero(fpr <= f + 1e-12)[-1]
        rest = 0.0 if j + 1 == len(fpr) else (f - fpr[j]) / (fpr[j + 1] - fpr[j])
        found.append(tpr[j] if rest <= 0 else tpr[j] + rest * (tpr[j + 1] - tpr[j]))
    return found


def precisions(positive, scores):
    """That of the highest threshold with at least the recall, and above 0."""
    precision, recall, _ = precision_recall_curve(positive, scores)
    found = []
    for r in RECALLS:
        reached = np.flatnonzero((recall >= r - 1e-12) & (recall > 0))[-1]
        found.append(precision[reached])
    return found


@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize(
    ("band", "curve"),
    [(roc_band, true_positive_rates), (precision_band, precisions)],
    ids=["roc", "precision"],
)
def test_the_band_is_what_a_loop_over_draws_finds(band, curve, ties: bool) -> None:
    positive, scores, groups = clustered(14, ties=ties)
    drawn_from = draws(groups, len(groups), replicates=150, seed=5)
    curves = []
    for counts in np.concatenate(list(drawn_from.chunks())):
        rows = np.repeat(np.arange(len(groups)), counts[drawn_from.codes])
        if 0 < positive[rows].sum() < len(rows):
            curves.append(curve(positive[rows], scores[rows]))
    tail = expanded_tail(14, 0.95)
    low, high = np.quantile(curves, [tail, 1 - tail], axis=0)

    found = band(positive, scores, drawn_from)

    np.testing.assert_allclose(found.low, low, atol=1e-9, rtol=0)
    np.testing.assert_allclose(found.high, high, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("band", "curve"),
    [(roc_band, true_positive_rates), (precision_band, precisions)],
    ids=["roc", "precision"],
)
def test_the_band_holds_the_curve_itself(band, curve) -> None:
    positive, scores, groups = clustered(150, ties=False)

    found = band(positive, scores, draws(groups, len(groups), replicates=400))

    itself = np.asarray(curve(positive, scores))
    assert (found.low <= itself + 1e-12).all()
    assert (itself <= found.high + 1e-12).all()
    assert found.low.min() >= 0
    assert found.high.max() <= 1


@pytest.mark.parametrize("band", [roc_band, precision_band])
def test_more_images_of_the_same_groups_make_no_narrower_band(band) -> None:
    positive, scores, groups = clustered(30, ties=False)
    once = band(positive, scores, draws(groups, len(groups), replicates=200))
    thrice = [np.tile(values, 3) for values in (positive, scores, groups)]

    found = band(*thrice[:2], draws(thrice[2], len(thrice[2]), replicates=200))

    np.testing.assert_allclose(found.low, once.low, atol=1e-12)
    np.testing.assert_allclose(found.high, once.high, atol=1e-12)


@pytest.mark.parametrize("band", [roc_band, precision_band])
def test_chunks_of_draws_do_not_matter(band, monkeypatch) -> None:
    positive, scores, groups = clustered(20, ties=True)
    drawn_from = draws(groups, len(groups), replicates=100)
    whole = band(positive, scores, drawn_from)
    monkeypatch.setattr("histo_mlflow.evaluation.bootstrap._CELLS", 7 * len(groups))

    found = band(positive, scores, drawn_from)

    np.testing.assert_array_equal(found.low, whole.low)
    np.testing.assert_array_equal(found.high, whole.high)


@pytest.mark.parametrize("band", [roc_band, precision_band])
def test_one_group_or_too_few_draws_with_both_sides_give_no_band(band) -> None:
    positive, scores = np.array([True, False, False, True]), np.array([1.0, 2.0, 3.0, 4.0])

    assert band(positive, scores, draws(["a"] * 4, 4, replicates=50)) is None
    # both sides only where both groups are drawn: half of the draws
    apart = draws(["a", "b", "b", "a"], 4, replicates=50)
    assert band(positive, scores, apart) is None
