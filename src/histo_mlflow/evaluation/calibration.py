"""Do probabilities mean what they say? Brier score, ECE, reliability, and the temperature.

Pure functions of `targets`, (n,) integers 0..K-1, and `probs` (n, K) or logits, in float64.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.probabilities import Floats, Output, checked_logits
from histo_mlflow.evaluation.rows import Indices, checked_rows

BINS = 15
HOTTEST, COLDEST = 1e3, 1e-3
"""The range of temperatures; an optimum beyond it is no calibration."""


@dataclass(frozen=True)
class Reliability:
    """Bins of confidence, (BINS,) each; NaN in bins without rows.

    Attributes:
        edges: (BINS + 1,) of the bins in [0, 1]; a bin holds its upper edge.
        rows: how many fall into each.
        confidence: mean probability of the predicted class.
        accuracy: share of right rows.
    """

    edges: Floats
    rows: Indices
    confidence: Floats
    accuracy: Floats


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by, and what that did where it was fitted.

    Attributes:
        value: > 1 makes the model less sure.
        at_limit: the data want a temperature beyond the range that is looked at, as when every row
            is right (a model can then never be too sure) or they carry nothing.
        loss_before: log loss in nats at temperature 1.
        loss_after: at `value`.
        rows: it was fitted on.
    """

    value: float
    at_limit: bool
    loss_before: float
    loss_after: float
    rows: int


def brier(targets: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """Mean squared distance of the probabilities from the truth, >= 0; 0 is perfect.

    Of class 1 for two classes, in [0, 1]; else summed over the classes, in [0, 2] (Brier 1950, as
    scikit-learn's `brier_score_loss`).

    Raises:
        DataError: shapes differ, no rows, NaN, or a target outside the columns.
    """
    return float(squared_errors(*checked_rows(targets, probs)).mean())


def squared_errors(truth: Indices, probs: Floats) -> Floats:
    """What `brier` is the mean of, (n,)."""
    rows = np.arange(len(truth))
    right = probs[rows, truth]
    wrong = (probs**2).sum(axis=1) - right**2
    return np.asarray((wrong + (1 - right) ** 2) / (2 if probs.shape[1] == 2 else 1))


def ece(targets: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """Expected calibration error in [0, 1]: mean distance of accuracy from confidence over bins.

    Confidence is the largest probability, in 15 bins of equal width (Guo et al. 2017,
    arXiv:1706.04599, equation 3). It is biased upwards on few rows.

    Raises:
        DataError: see `brier`.
    """
    truth, values = checked_rows(targets, probs)
    bins, gaps = calibration_bins(truth, values)
    return float(np.abs(np.bincount(bins, weights=gaps)).sum() / len(truth))


def calibration_bins(truth: Indices, probs: Floats) -> tuple[Indices, Floats]:
    """Return each row's bin of confidence, and right (0 or 1) minus confidence: (n,) each."""
    confidence = probs.max(axis=1)
    right = probs.argmax(axis=1) == truth
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return bins, right - confidence


def reliability(targets: npt.ArrayLike, probs: npt.ArrayLike) -> Reliability:
    """Accuracy and confidence in each bin of confidence: the diagram's points.

    Raises:
        DataError: see `brier`.
    """
    truth, values = checked_rows(targets, probs)
    bins, gaps = calibration_bins(truth, values)
    rows = np.bincount(bins, minlength=BINS)
    confidence = np.bincount(bins, weights=values.max(axis=1), minlength=BINS)
    gap = np.bincount(bins, weights=gaps, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.linspace(0, 1, BINS + 1), rows, confidence / rows, (confidence + gap) / rows
        )


def fit_temperature(targets: npt.ArrayLike, logits: npt.ArrayLike, output: Output) -> Temperature:
    """Find the temperature of least log loss (Guo et al. 2017, section 4.2); of validation rows.

    Classes keep their order, so accuracy and the AUC of two classes stay as they are. The loss is
    convex in 1/T, so there is one optimum.

    Args:
        targets: (n,) class indices.
        logits: (n, K) for softmax, (n, 1) for sigmoid.
        output: how logits become probabilities.

    Raises:
        DataError: see `brier`, or NaN among the logits.
    """
    values = checked_logits(logits, output)
    if output == "sigmoid":
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    truth, values = checked_rows(targets, values)
    ahead = values - values[np.arange(len(truth)), truth][:, None]  # of the true class

    def loss(log_inverse: float) -> float:
        return float(logsumexp(np.exp(log_inverse) * ahead, axis=1).mean())

    # Nothing ahead of the truth in any row: the colder the better. Nothing to choose between the
    # classes on average: the hotter the better (the loss falls nowhere as 1/T leaves 0).
    at_limit = bool((ahead <= 0).all() or ahead.mean() >= 0)
    before = loss(0.0)
    if at_limit:
        return Temperature(1.0, at_limit, before, before, len(values))
    found = minimize_scalar(
        loss,
        bounds=(-np.log(HOTTEST), -np.log(COLDEST)),
        method="bounded",
        options={"xatol": 1e-10, "maxiter": 500},
    )
    value = float(np.exp(-found.x))
    if value > HOTTEST * 0.99 or value < COLDEST * 1.01 or found.fun > before:
        return Temperature(1.0, found.fun <= before, before, before, len(values))
    return Temperature(value, at_limit, before, loss(-np.log(value)), len(values))


def at_temperature(logits: npt.ArrayLike, temperature: float) -> Floats:
    """Divide logits by a temperature.

    Raises:
        DataError: the temperature is not a finite number above 0.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise DataError(f"Expected a temperature above 0, got {temperature}.")
    return np.asarray(logits, dtype=np.float64) / temperature
