"""Where to cut the probability of a class: thresholds chosen on validation, reported on test.

One class against the rest. A threshold t says the class from p >= t on. All are chosen among the
probabilities that occur, so the same rows give the same decision to the bit.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from histo_mlflow.errors import DataError

FIXED = 0.95
"""The specificity or sensitivity that is fixed while the other is reported."""
SENSITIVITY = "sensitivity_at_95_specificity"
SPECIFICITY = "specificity_at_95_sensitivity"

MISS_COST = 5.0
"""How many false alarms one miss weighs in the rule "cost", unless said otherwise."""

Rule = Literal["youden", "sensitivity", "cost"]


@dataclass(frozen=True)
class Threshold:
    """A cut of the probability of a class, and how it does on the rows it was chosen on."""

    rule: Rule
    value: float
    sensitivity: float
    specificity: float


def choose(
    positive: npt.NDArray[np.bool_], probability: npt.ArrayLike, *, miss_cost: float = MISS_COST
) -> tuple[Threshold, ...]:
    """Choose a threshold by each rule; the highest one where several are equally good.

    "youden" has the largest sensitivity + specificity (Youden 1950, doi
    10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3), "sensitivity" the best
    specificity with at least 95 % sensitivity, "cost" the least false alarms + miss_cost x misses.

    Args:
        positive: (n,) which rows are of the class.
        probability: (n,) of the class.
        miss_cost: > 0.

    Returns:
        One a rule; none at all without a positive or without a negative row.

    Raises:
        DataError: values that are not finite, another length, or a cost that is not above 0.
    """
    values = np.asarray(probability, dtype=np.float64)
    if values.shape != positive.shape or not np.isfinite(values).all():
        raise DataError(
            f"Expected {len(positive):,} finite probabilities, got shape {values.shape} with "
            f"{int((~np.isfinite(values)).sum()):,} that are not finite."
        )
    if not (np.isfinite(miss_cost) and miss_cost > 0):
        raise DataError(f"Expected the cost of a miss to be above 0, got {miss_cost}.")
    if not (positive.any() and not positive.all()):
        return ()
    fpr, tpr, cuts = roc_curve(positive, values, drop_intermediate=False)
    # the first cut is above all rows and would never say the class
    fpr, tpr, cuts = fpr[1:], tpr[1:], cuts[1:]
    misses, alarms = (1 - tpr) * positive.sum(), fpr * (~positive).sum()
    best = {
        "youden": int(np.argmax(tpr - fpr)),
        "sensitivity": int(np.argmax(tpr >= FIXED - 1e-12)),
        "cost": int(np.argmin(np.round(alarms + miss_cost * misses, 9))),
    }
    return tuple(
        Threshold(rule, float(cuts[i]), float(tpr[i]), float(1 - fpr[i]))
        for rule, i in zip(get_args(Rule), best.values(), strict=True)
    )


def at(
    positive: npt.NDArray[np.bool_], probability: npt.ArrayLike, cut: float
) -> tuple[float | None, float | None]:
    """Sensitivity and specificity of a cut, in [0, 1]; None without rows to take them of.

    Args:
        positive: (n,) which rows are of the class.
        probability: (n,) of the class.
        cut: the class is said from this probability on.
    """
    said = np.asarray(probability, dtype=np.float64) >= cut
    sensitivity = float(said[positive].mean()) if positive.any() else None
    return sensitivity, None if positive.all() else float((~said[~positive]).mean())


def sensitivity_at_specificity(
    positive: npt.NDArray[np.bool_], scores: npt.ArrayLike, specificity: float = FIXED
) -> float | None:
    """The highest sensitivity of any threshold with at least that specificity; no interpolation.

    None without a positive or without a negative row.
    """
    if not (positive.any() and not positive.all()):
        return None
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(tpr[fpr <= 1 - specificity + 1e-12].max())


def specificity_at_sensitivity(
    positive: npt.NDArray[np.bool_], scores: npt.ArrayLike, sensitivity: float = FIXED
) -> float | None:
    """The highest specificity of any threshold with at least that sensitivity; no interpolation.

    None without a positive or without a negative row.
    """
    if not (positive.any() and not positive.all()):
        return None
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(1 - fpr[tpr >= sensitivity - 1e-12].min())
