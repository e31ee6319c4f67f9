"""When a model should rather say nothing: a cut of its confidence, chosen on validation.

Confidence is the greatest calibrated probability. A model that abstains on what it is least sure
of is right more often on the rest; how much more is reported on the split that is judged (selective
classification, Chow 1970, doi 10.1109/TIT.1970.1054406; Geifman & El-Yaniv 2017,
arXiv:1705.08500).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.rows import checked_rows

SHARE = 0.1
"""Of the validation rows, at most this share is abstained from."""


@dataclass(frozen=True)
class Kept:
    """How a cut does on some rows.

    Attributes:
        rows: in all.
        abstained: share of them that the model abstains from, in [0, 1].
        accuracy_kept: of the rest; None where nothing is left.
        accuracy_abstained: of those; None where there are none.
    """

    rows: int
    abstained: float
    accuracy_kept: float | None
    accuracy_abstained: float | None


@dataclass(frozen=True)
class AbstainRule:
    """The model abstains where its confidence lies below `below`.

    Attributes:
        below: in (0, 1].
        validation: how it does where it was chosen.
        judged: how it does on the split that is judged.
    """

    below: float
    validation: Kept
    judged: Kept

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def choose(confidence: npt.ArrayLike, share: float = SHARE) -> float:
    """The highest cut that leaves at most a share of the rows below it; of validation rows.

    Of rows that are equally sure either all are below it or none, so it may be fewer.

    Args:
        confidence: (n,) greatest probability of each row, in (0, 1].
        share: in [0, 1).

    Raises:
        DataError: no rows, a value out of range, or NaN.
    """
    values = np.sort(np.asarray(confidence, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (values[0] > 0 and values[-1] <= 1):
        raise DataError("Expected the confidence of one row or more, each in (0, 1].")
    if not 0 <= share < 1:
        raise DataError(f"Expected the share to abstain from in [0, 1), got {share}.")
    return float(values[int(share * len(values))])


def kept(targets: npt.ArrayLike, probs: npt.ArrayLike, below: float) -> Kept:
    """How a cut does on rows with known classes.

    Args:
        targets: (n,) class indices.
        probs: (n, K) calibrated probabilities.
        below: the cut.

    Raises:
        DataError: see `calibration.brier`.
    """
    truth, values = checked_rows(targets, probs)
    right = values.argmax(axis=1) == truth
    out = values.max(axis=1) < below
    return Kept(
        rows=len(truth),
        abstained=float(out.mean()),
        accuracy_kept=None if out.all() else float(right[~out].mean()),
        accuracy_abstained=float(right[out].mean()) if out.any() else None,
    )
