"""Brier score, ECE and temperature against independent references."""

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.calibration import (
    at_temperature,
    brier,
    ece,
    fit_temperature,
    reliability,
)
from histo_mlflow.evaluation.probabilities import probabilities


def rows(n: int, k: int, seed: int, *, sure: float = 1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), truth] += 1.0
    return truth, sure * logits


def ece_by_hand(truth, probs) -> float:
    """Bins (0, 1/15], (1/15, 2/15], ... one at a time."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == truth
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("k", [2, 7])
@pytest.mark.parametrize("sure", [0.01, 1.0, 30.0, 1000.0])
def test_brier_and_ece_agree_with_references(k: int, sure: float) -> None:
    truth, logits = rows(300, k, 1, sure=sure)
    probs = softmax(logits, axis=1)
    if k == 2:
        expected = reference.brier_score_loss(truth, probs[:, 1])
    else:
        expected = np.mean(((probs - np.eye(k)[truth]) ** 2).sum(axis=1))
    assert brier(truth, probs) == pytest.approx(expected, abs=1e-12)
    assert ece(truth, probs) == pytest.approx(ece_by_hand(truth, probs), abs=1e-12)


def test_a_single_class_and_ties_are_no_trouble() -> None:
    truth, probs = np.zeros(4, dtype=int), np.full((4, 2), 0.5)
    assert brier(truth, probs) == 0.25
    assert ece(truth, probs) == 0.5  # the first class is said on a tie, always rightly here


def test_the_reliability_diagram_adds_up_to_the_ece() -> None:
    truth, logits = rows(500, 4, 2, sure=3)
    probs = softmax(logits, axis=1)
    found = reliability(truth, probs)
    filled = found.rows > 0
    gaps = np.abs(found.accuracy[filled] - found.confidence[filled])
    assert (gaps * found.rows[filled]).sum() / 500 == pytest.approx(ece(truth, probs))
    assert found.rows.sum() == 500
    assert np.isnan(found.accuracy[~filled]).all()


@pytest.mark.parametrize("k", [2, 7])
@pytest.mark.parametrize("sure", [0.05, 1.0, 4.0, 200.0])
def test_the_temperature_is_that_of_two_other_optimisers(k: int, sure: float) -> None:
    truth, logits = rows(800, k, 3, sure=sure)
    found = fit_temperature(truth, logits, "softmax")

    def loss(inverse: np.ndarray) -> float:
        return float(-log_softmax(logits * inverse[0], axis=1)[np.arange(800), truth].mean())

    by_simplex = minimize(
        loss, [1 / sure], method="Nelder-Mead", options={"xatol": 1e-13, "fatol": 1e-16}
    )
    inverse = torch.tensor([1 / sure], dtype=torch.float64, requires_grad=True)
    data, target = torch.tensor(logits), torch.tensor(truth)
    newton = torch.optim.LBFGS(
        [inverse], max_iter=200, tolerance_grad=1e-13, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        newton.zero_grad()
        value = torch.nn.functional.cross_entropy(data * inverse, target)
        value.backward()
        return value

    newton.step(closure)
    assert found.value == pytest.approx(1 / by_simplex.x[0], rel=1e-6)
    assert found.value == pytest.approx(1 / inverse.item(), rel=1e-6)
    assert found.loss_after == pytest.approx(by_simplex.fun, abs=1e-12)
    assert found.loss_after <= found.loss_before


def test_a_sigmoid_has_the_temperature_of_its_softmax() -> None:
    truth, logits = rows(300, 2, 5, sure=5)
    margin = logits[:, 1:] - logits[:, :1]
    one = fit_temperature(truth, margin, "sigmoid").value
    assert one == pytest.approx(fit_temperature(truth, logits, "softmax").value, rel=1e-6)


def test_the_temperature_repairs_what_was_multiplied() -> None:
    truth, logits = rows(4000, 3, 6)
    one, seven = (fit_temperature(truth, s * logits, "softmax").value for s in (1, 7))
    assert seven == pytest.approx(7 * one, rel=1e-5)


@pytest.mark.parametrize(
    "logits", [[[5.0, 0.0], [0.0, 5.0]], [[1e8, 0.0], [0.0, 1e8]], [[0.0, 0.0], [0.0, 0.0]]]
)
def test_where_no_temperature_is_best_one_is_kept_and_said(logits) -> None:
    """All right: the surer the better. All equal: nothing changes anything."""
    found = fit_temperature([0, 1], logits, "softmax")
    assert found.value == 1.0
    assert found.loss_after == found.loss_before
    assert found.at_limit or logits[0][0] == 0.0


def test_extreme_logits_neither_overflow_nor_warn() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 3)) * 1e6
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = fit_temperature(rng.integers(0, 3, 50), logits, "softmax")
    assert np.isfinite(found.value)


def test_classes_keep_their_order_at_any_temperature() -> None:
    _, logits = rows(100, 5, 8)
    cool, hot = (probabilities(at_temperature(logits, t), "softmax") for t in (0.5, 5.0))
    np.testing.assert_array_equal(cool.argsort(axis=1), hot.argsort(axis=1))


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf])
def test_no_temperature_but_a_positive_number(temperature) -> None:
    with pytest.raises(DataError, match="above 0"):
        at_temperature([[1.0, 2.0]], temperature)


def test_nan_is_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        fit_temperature([0, 1], [[0.0, 1.0], [np.nan, 0.0]], "softmax")
