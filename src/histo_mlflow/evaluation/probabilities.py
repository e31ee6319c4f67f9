"""From logits to probabilities, in float64 numpy.

Float32 is not enough: its sigmoid is exactly 1 from a logit of 17 on, so that sure predictions
become ties and the AUC changes. Float64 holds to 37; beyond that `log_odds` still ranks.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from histo_mlflow.errors import DataError

Output = Literal["softmax", "sigmoid"]
Floats = npt.NDArray[np.float64]


def checked_logits(logits: npt.ArrayLike, output: Output) -> Floats:
    """Return logits as float64 of shape (n, K) for softmax, K >= 2, or (n, 1) for sigmoid.

    Raises:
        DataError: another shape, an unknown output, or a value that is NaN or infinite.
    """
    values = np.asarray(logits, dtype=np.float64)
    if output not in ("softmax", "sigmoid"):
        raise DataError(f"Expected the output 'softmax' or 'sigmoid', got {output!r}.")
    wanted = "(n, 1)" if output == "sigmoid" else "(n, K) with K >= 2"
    columns_fit = values.ndim == 2 and (
        values.shape[1] == 1 if output == "sigmoid" else values.shape[1] >= 2
    )
    if not columns_fit:
        raise DataError(f"Expected {output} logits of shape {wanted}, got {values.shape}.")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if broken.size:
        raise DataError(
            f"Expected finite logits, but {broken.size:,} of {len(values):,} rows hold NaN or an "
            f"infinite value (first: row {broken[0]}). The model has diverged: look at its loss "
            "and gradients, or lower the learning rate."
        )
    return values


def probabilities(logits: npt.ArrayLike, output: Output) -> Floats:
    """Return class probabilities (n, K), float64 in [0, 1]; a sigmoid gives [1 - p, p].

    Only the exponentials of numbers <= 0 are taken, so nothing overflows.

    Raises:
        DataError: see `checked_logits`.
    """
    values = checked_logits(logits, output)
    if output == "sigmoid":
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    exponentials = np.exp(_shifted(values))
    total = exponentials.sum(axis=1, keepdims=True)
    return np.asarray(exponentials / total, dtype=np.float64)


def log_probabilities(logits: npt.ArrayLike, output: Output) -> Floats:
    """Return log(probabilities) (n, K), exact also where the probability rounds to 0 or 1.

    Raises:
        DataError: see `checked_logits`.
    """
    return np.asarray(-np.logaddexp(0, -log_odds(logits, output)))


def log_odds(logits: npt.ArrayLike, output: Output) -> Floats:
    """Return log(p / (1 - p)) of every class, shape (n, K).

    It orders the rows of a class as its probability does, but without the ties that come from
    rounding to 0 and 1; true ties stay ties. Ranking metrics are taken over it.

    Raises:
        DataError: see `checked_logits`.
    """
    values = checked_logits(logits, output)
    if output == "sigmoid":
        return np.concatenate([-values, values], axis=1)
    shifted = _shifted(values)
    # sorted, so that rows with the same logits in another order get the same sum to the bit
    ranked = np.sort(shifted, axis=1)
    log_p = shifted - np.log(np.exp(ranked).sum(axis=1, keepdims=True))
    # a class that is not the largest has p <= 1/2, and 1 - p loses nothing
    with np.errstate(divide="ignore"):
        odds = log_p - np.log1p(-np.exp(log_p))
    second = ranked[:, -2:-1]
    rest = second[:, 0] + np.log(np.exp(ranked[:, :-1] - second).sum(axis=1))
    return np.asarray(np.where(shifted == 0, -rest[:, None], odds))


def _shifted(values: Floats) -> Floats:
    """Subtract the row's maximum; probabilities do not change by it."""
    return np.asarray(values - values.max(axis=1, keepdims=True))
