"""Logits become probabilities exactly, also where float32 or a plain exp would fail."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.probabilities import log_odds, log_probabilities, probabilities

EXTREME = np.array([-1e30, -745.0, -88.0, -17.0, -1e-9, 0.0, 1e-9, 17.0, 40.0, 745.0, 1e30])


def exactly(row: list[float]) -> tuple[list[float], list[float], list[float]]:
    """Probabilities, their logarithms and log-odds of one row, with sixty digits."""
    with localcontext() as context:
        context.prec = 60
        exponentials = [(Decimal(x) - Decimal(max(row))).exp() for x in row]
        total = sum(exponentials)
        p = [e / total for e in exponentials]
        odds = [
            e / sum(exponentials[:k] + exponentials[k + 1 :]) for k, e in enumerate(exponentials)
        ]
        return [float(x) for x in p], [float(x.ln()) for x in p], [float(x.ln()) for x in odds]


@pytest.mark.parametrize("scale", [0.1, 3, 20])
def test_softmax_agrees_with_sixty_digit_arithmetic(scale: float) -> None:
    logits = np.random.default_rng(0).normal(0, scale, (50, 7))
    p, log_p, odds = (np.array(x) for x in zip(*map(exactly, logits.tolist()), strict=True))
    np.testing.assert_allclose(probabilities(logits, "softmax"), p, rtol=1e-13)
    np.testing.assert_allclose(log_probabilities(logits, "softmax"), log_p, rtol=1e-12)
    np.testing.assert_allclose(log_odds(logits, "softmax"), odds, rtol=1e-12, atol=1e-13)


def test_a_sigmoid_is_the_softmax_of_zero_and_the_logit() -> None:
    p = probabilities(EXTREME[:, None], "sigmoid")
    pair = np.stack([np.zeros_like(EXTREME), EXTREME], axis=1)
    np.testing.assert_array_equal(p, probabilities(pair, "softmax"))
    assert p.shape == (11, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    expected = np.array([exactly([0.0, x])[0] for x in EXTREME if abs(x) < 100])
    np.testing.assert_allclose(p[np.abs(EXTREME) < 100], expected, rtol=1e-13)
    assert p[[0, -1]].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_extreme_logits_neither_overflow_nor_warn(output: str) -> None:
    logits = EXTREME[:, None] if output == "sigmoid" else np.array([[1e30, -1e30], [3e38, 0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        p = probabilities(logits, output)
        log_p = log_probabilities(logits, output)
        odds = log_odds(logits, output)
    assert np.isfinite(p).all()
    assert np.isfinite(log_p).all()
    assert np.isfinite(odds).all()
    assert (p >= 0).all()
    assert (p <= 1).all()


def test_log_odds_still_rank_where_the_probability_has_become_one() -> None:
    logits = np.array([[40.0], [41.0], [700.0]])
    assert len(set(probabilities(logits, "sigmoid")[:, 1])) == 1
    assert list(log_odds(logits, "sigmoid")[:, 1]) == [40.0, 41.0, 700.0]


def test_true_ties_stay_ties_in_log_odds() -> None:
    rows = np.array([[3, 1, 0, -2], [4, 2, 1, -1], [3, 0, -2, 1], [3, -2, 1, 0]], dtype=float)
    assert len(set(log_odds(rows, "softmax")[:, 0])) == 1


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_row(broken: float) -> None:
    logits = np.zeros((5, 3))
    logits[3, 1] = broken
    with pytest.raises(DataError, match=r"1 of 5 rows .* \(first: row 3\)"):
        probabilities(logits, "softmax")


@pytest.mark.parametrize(
    ("shape", "output"),
    [((4,), "sigmoid"), ((4, 2), "sigmoid"), ((4, 1), "softmax"), ((4,), "softmax")],
)
def test_a_shape_that_does_not_fit_the_output_is_refused(
    shape: tuple[int, ...], output: str
) -> None:
    with pytest.raises(DataError, match="of shape"):
        probabilities(np.zeros(shape), output)


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(DataError, match="'softmax' or 'sigmoid', got 'tanh'"):
        probabilities(np.zeros((1, 2)), "tanh")


@pytest.mark.parametrize(("output", "columns"), [("softmax", 2), ("softmax", 7), ("sigmoid", 1)])
def test_the_models_probabilities_are_the_same_numbers(output: str, columns: int) -> None:
    torch = pytest.importorskip("torch")
    build = pytest.importorskip("histo_mlflow.models.build")
    rng = np.random.default_rng(1)
    logits = np.concatenate(
        [rng.normal(0, scale, (200, columns)) for scale in (1e-6, 1, 30, 1e4)]
    ).astype(np.float32)
    theirs = np.asarray(build.probabilities(torch.from_numpy(logits), output))
    np.testing.assert_allclose(probabilities(logits, output), theirs, rtol=1e-12, atol=1e-15)
