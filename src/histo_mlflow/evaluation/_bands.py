"""Bands around ROC and precision-recall curves: where the curve of other groups might run.

Each draw of groups gives a curve of weighted rows. The rows are sorted by score once; a draw's true
and false positives at every threshold are then running sums of its counts, for all draws of a chunk
together, and its curve is read off at fixed abscissae (vertical averaging: Fawcett 2006,
doi 10.1016/j.patrec.2005.10.010, section 8.1). A band is pointwise: it covers each point of the
curve at its level, not the whole curve.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from histo_mlflow.evaluation.bootstrap import (
    LEAST_DEFINED,
    LEVEL,
    Counts,
    Draws,
    Floats,
    expanded_tail,
)

FALSE_POSITIVE_RATES = np.linspace(0, 1, 121) ** 2
"""Closer together near 0, where the curve of a good model bends."""
RECALLS = np.linspace(0, 1, 121)

Whole = npt.NDArray[np.integer[Any]]
Read = Callable[[Whole, Whole], Floats]


@dataclass(frozen=True, eq=False)
class Band:
    """Where a curve might run: (g,) abscissae, lower and upper edge."""

    at: Floats
    low: Floats
    high: Floats


def roc_band(
    positive: npt.NDArray[np.bool_], scores: Floats, drawn_from: Draws, *, level: float = LEVEL
) -> Band | None:
    """Band of the true positive rate over `FALSE_POSITIVE_RATES`.

    A curve joins its thresholds by straight lines; where it rises upright its upper end counts.

    Args:
        positive: (n,) which rows are of the class.
        scores: (n,) finite, higher means likelier.
        drawn_from: the draws of groups.
        level: how often a point of the band should cover.

    Returns:
        None for one group, and where too few draws hold a positive and a negative row.
    """
    return _band(positive, scores, drawn_from, level, FALSE_POSITIVE_RATES, _true_positives)


def precision_band(
    positive: npt.NDArray[np.bool_], scores: Floats, drawn_from: Draws, *, level: float = LEVEL
) -> Band | None:
    """Band of the precision over `RECALLS`.

    A curve is the steps that average precision is the area of: its precision at a recall is that of
    the highest threshold which reaches the recall.

    Args, Returns: as `roc_band`.
    """
    return _band(positive, scores, drawn_from, level, RECALLS, _precisions)


def _band(
    positive: npt.NDArray[np.bool_],
    scores: Floats,
    drawn_from: Draws,
    level: float,
    at: Floats,
    read: Read,
) -> Band | None:
    if drawn_from.n_groups < 2:
        return None
    order = np.argsort(-scores, kind="stable")
    codes, is_positive = drawn_from.codes[order], positive[order]
    # rows of one score pass a threshold together
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    curves = []
    for counts in drawn_from.chunks():
        true, false = _passed(counts, codes, is_positive, ends)
        known = (true[:, -1] > 0) & (false[:, -1] > 0)
        curves.append(read(true[known], false[known]))
    drawn = np.concatenate(curves)
    if len(drawn) < LEAST_DEFINED * drawn_from.replicates:
        return None
    tail = expanded_tail(drawn_from.n_groups, level)
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return Band(at, low, high)


def _passed(
    counts: Counts, codes: Counts, positive: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp]
) -> tuple[Whole, Whole]:
    """True and false positives of b draws above no row, then at each threshold: (b, m + 1) each."""
    weights = counts[:, codes]
    every = _running(weights, ends)
    true = _running(weights * positive.astype(np.int32), ends)
    return true, every - true


def _running(weights: Counts, ends: npt.NDArray[np.intp]) -> Whole:
    sums = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int32)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    tied = len(ends) < weights.shape[1]
    return sums[:, np.append(0, ends + 1)] if tied else sums


def _true_positives(true: Whole, false: Whole) -> Floats:
    """True positive rates of b curves over `FALSE_POSITIVE_RATES`, (b, g)."""
    wanted = FALSE_POSITIVE_RATES * false[:, -1:]
    # 1e-6 rows: a product that should be a whole number counts as one, whatever the rounding
    last = _first_above(false, np.floor(wanted + 1e-6).astype(np.int64)) - 1
    following = np.minimum(last + 1, false.shape[1] - 1)
    start, end = (np.take_along_axis(false, i, axis=1) for i in (last, following))
    low, high = (np.take_along_axis(true, i, axis=1) for i in (last, following))
    share = np.clip((wanted - start) / np.maximum(end - start, 1), 0, 1)
    return np.asarray((low + share * (high - low)) / true[:, -1:])


def _precisions(true: Whole, false: Whole) -> Floats:
    """Precisions of b curves over `RECALLS`, (b, g); at recall 0 that of the first found."""
    wanted = np.maximum(np.ceil(RECALLS * true[:, -1:] - 1e-6).astype(np.int64), 1)
    reached = _first_above(true, wanted - 1)
    right, wrong = (np.take_along_axis(counts, reached, axis=1) for counts in (true, false))
    return np.asarray(right / (right + wrong))


def _first_above(rising: Whole, limits: Whole) -> Whole:
    """For each row, the first column whose value is above each of the row's limits: (b, g)."""
    # all rows as one rising array, each lifted above the one before: one search for all of them
    lift = (rising[:, -1].max(initial=0) + 1) * np.arange(len(rising), dtype=np.int64)[:, None]
    lifted = (rising + lift).ravel()
    found = np.searchsorted(lifted, (limits + lift).ravel(), side="right")
    starts = rising.shape[1] * np.arange(len(rising), dtype=np.int64)[:, None]
    return np.asarray(found.reshape(limits.shape) - starts, dtype=np.int64)
