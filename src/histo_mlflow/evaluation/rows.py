"""What every metric asks of its rows: targets and values that fit together, and no NaN."""

import numpy as np
import numpy.typing as npt

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.probabilities import Floats

Indices = npt.NDArray[np.int64]


def check_indices(indices: npt.NDArray[np.generic], n_classes: int) -> None:
    """Refuse what is no integer from 0 to n_classes - 1.

    Raises:
        DataError: it is not.
    """
    if not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f"Expected class indices as integers, got {indices.dtype}.")
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < n_classes:
        raise DataError(
            f"Expected class indices from 0 to {n_classes - 1}, "
            f"got {indices.min()} to {indices.max()}."
        )


def checked_rows(targets: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Indices, Floats]:
    """Return targets as int64 (n,) and scores as float64 (n, K).

    Raises:
        DataError: shapes that do not fit, no rows, NaN or infinite values, a target outside.
    """
    truth, values = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or truth.shape != values.shape[:1]:
        raise DataError(
            "Expected targets of shape (n,) and scores of shape (n, K) with K >= 2, "
            f"got {truth.shape} and {values.shape}."
        )
    if not truth.size:
        raise DataError("Expected at least one row to compute a metric of, got none.")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if broken.size:
        raise DataError(
            f"Expected finite scores, but {broken.size:,} of {len(values):,} rows hold NaN or an "
            f"infinite value (first: row {broken[0]})."
        )
    check_indices(truth, values.shape[1])
    return truth.astype(np.int64), values
