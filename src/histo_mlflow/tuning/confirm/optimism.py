"""How good recipes are on replicates, and how far a search flattered them: numbers alone.

A recipe that was chosen because it scored best scored best partly by luck, so the value that chose
it promises too much. Trained again on fresh seeds and other folds, the same recipe tells how much.

Training sets of different folds share most of their images, so the values of replicates resemble
each other and their plain standard error is too small. All intervals here are the corrected
resampled t of Nadeau and Bengio (2003, doi 10.1023/A:1024068626366): the variance of a mean over n
replicates is sd^2 * (1/n + n_val/n_train), with n - 1 degrees of freedom.

A value that is None or not finite is missing. All is float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from histo_mlflow.errors import StudyError
from histo_mlflow.evaluation.bootstrap import LEVEL

Direction = Literal["maximize", "minimize"]
Value = float | None
Bounds = tuple[float, float]

ANY: Bounds = (-math.inf, math.inf)

_NOTHING = 1e-12  # what rounding leaves of values that are equal


@dataclass(frozen=True)
class Spread:
    """The mean over replicates, and how far it may be off.

    Attributes:
        n: replicates that have a value.
        mean: over them; None of none.
        sd: standard deviation (n - 1); None of fewer than two.
        error: sd / sqrt(n), the standard error of the one-standard-error rule.
        low: lower end of the interval of the mean, corrected for overlap; None where there is none.
        high: its upper end.
        why: why there is no interval; else empty.
    """

    n: int
    mean: Value
    sd: Value = None
    error: Value = None
    low: Value = None
    high: Value = None
    why: str = ""


@dataclass(frozen=True)
class Optimism:
    """How much better the search's value was than the mean over replicates; positive flatters.

    The search's value is taken as it is: the interval is that of the mean, turned round.

    Attributes:
        value: None where one of the two is missing.
        low: lower end of its interval; None where there is none.
        high: its upper end.
    """

    value: Value
    low: Value = None
    high: Value = None


@dataclass(frozen=True)
class Choice:
    """What the one-standard-error rule chose.

    Attributes:
        best: the place with the best mean.
        chosen: the place that is simplest among those within one standard error of the best.
        within: all such places, in their order; the best is among them.
        limit: the mean that is one standard error worse than the best.
    """

    best: int
    chosen: int
    within: tuple[int, ...]
    limit: float


def spread(values: Sequence[Value], overlap: float, bounds: Bounds = ANY) -> Spread:
    """Put the mean of the replicates into its interval.

    Args:
        values: of one recipe; what is missing is left out.
        overlap: n_val / n_train of the replicates, such as 1 / (R - 1) for R folds; 0 gives the
            plain t interval, which is too short for folds.
        bounds: what the metric can be at least and at most; the interval is cut there, which does
            not change how often it holds the truth.

    Returns:
        No interval for fewer than two values, nor where all values are equal: that tells nothing of
        how other replicates would differ.

    Raises:
        StudyError: `overlap` is negative or no number.
    """
    if not (math.isfinite(overlap) and overlap >= 0):
        raise StudyError(f"Expected n_val / n_train to be 0 or more, got {overlap}.")
    known = np.array([value for value in values if is_known(value)], dtype=np.float64)
    n = len(known)
    if n == 0:
        return Spread(0, None, why="no replicate has a value")
    mean = float(known.mean())
    if n == 1:
        return Spread(1, mean, why="one replicate cannot tell how replicates differ")
    sd = float(known.std(ddof=1))
    error = sd / math.sqrt(n)
    if sd <= _NOTHING * max(1.0, abs(mean)):
        why = "all replicates give the same value and tell nothing"
        return Spread(n, mean, 0.0, 0.0, why=why)
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * sd * math.sqrt(1 / n + overlap)
    return Spread(n, mean, sd, error, max(mean - reach, bounds[0]), min(mean + reach, bounds[1]))


def gain(
    values: Sequence[Value], reference: Sequence[Value], direction: Direction, overlap: float
) -> Spread:
    """How much better a recipe is than another on the same replicates; positive is better.

    Each replicate is a pair: same seed, same fold, so that what makes a fold easy cancels. For a
    metric that is minimised the sign is turned.

    Args:
        values: of the recipe, by replicate.
        reference: of the other one, by replicate.
        direction: which way the metric is better.
        overlap: see `spread`.

    Returns:
        Of the replicates that both have. Recipes that agree in every one of them differ by nothing,
        and that is sure: the interval is 0 to 0.

    Raises:
        StudyError: another number of replicates, or see `spread`.
    """
    if len(values) != len(reference):
        raise StudyError(
            f"Expected values of the same replicates, got {len(values)} and {len(reference)}."
        )
    sign = sign_of(direction)
    found = spread(
        [
            sign * (one - other) if one is not None and other is not None else None
            for one, other in zip(values, reference, strict=True)
        ],
        overlap,
    )
    if found.sd == 0 and found.mean is not None and abs(found.mean) <= _NOTHING:
        return replace(found, mean=0.0, low=0.0, high=0.0, why="")
    return found


def optimism(reported: Value, confirmed: Spread, direction: Direction) -> Optimism:
    """How much the search flattered a recipe.

    Args:
        reported: its value in the search; None for a recipe that the search did not try.
        confirmed: from `spread`.
        direction: which way the metric is better.
    """
    if reported is None or not is_known(reported) or confirmed.mean is None:
        return Optimism(None)
    sign = sign_of(direction)
    value = sign * (reported - confirmed.mean)
    if confirmed.low is None or confirmed.high is None:
        return Optimism(value)
    low, high = sorted((sign * (reported - confirmed.low), sign * (reported - confirmed.high)))
    return Optimism(value, low, high)


def one_standard_error(
    spreads: Sequence[Spread], costs: Sequence[tuple[float, float]], direction: Direction
) -> Choice:
    """The simplest recipe whose mean is within one standard error of the best.

    Breiman, Friedman, Olshen and Stone 1984, "Classification and Regression Trees", section 3.4.3;
    Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning", section 7.10. The
    standard error is the rule's own, sd / sqrt(n) of the best. A difference that is smaller than
    that is no ground to pay for the dearer recipe.

    Args:
        spreads: of recipes on the same replicates, two or more.
        costs: of each, compared from left to right; less is simpler.
        direction: which way the metric is better.

    Returns:
        Of equally simple ones that with the better mean, then the first.

    Raises:
        StudyError: no recipes, another number of costs, or one without a mean and standard error.
    """
    means = [found.mean for found in spreads if found.mean is not None and found.error is not None]
    if not spreads or len(costs) != len(spreads) or len(means) != len(spreads):
        raise StudyError(
            "Expected recipes with two replicates or more and a cost each, got "
            f"{len(spreads)} recipes, {len(means)} of them so, and {len(costs)} costs."
        )
    sign = sign_of(direction)
    best = max(range(len(means)), key=lambda place: sign * means[place])
    limit = means[best] - sign * (spreads[best].error or 0.0)
    within = tuple(place for place in range(len(means)) if reaches(means[place], limit, direction))
    chosen = min(within, key=lambda place: (costs[place], -sign * means[place], place))
    return Choice(best, chosen, within, limit)


def reaches(value: float, limit: float, direction: Direction) -> bool:
    """Whether a value is as good as the limit, or better."""
    return sign_of(direction) * (value - limit) >= -_NOTHING


def sign_of(direction: Direction) -> int:
    """1 where more is better, else -1."""
    return 1 if direction == "maximize" else -1


def is_known(value: Value) -> bool:
    """Whether there is a finite value."""
    return value is not None and math.isfinite(value)
