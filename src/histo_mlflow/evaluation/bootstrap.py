"""Resampling by group: how far a number would move had other slides or patients been drawn.

Images of one slide, lesion or patient resemble each other, so the unit that is drawn with
replacement is the group and not the image (the cluster bootstrap: Davison and Hinkley 1997,
"Bootstrap Methods and their Application", section 3.8). Drawing images ("naive") is the special
case of one image a group and is shown beside it, to tell how much it promises too much.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from histo_mlflow.errors import DataError

REPLICATES = 2000
LEVEL = 0.95
LEAST_DEFINED = 0.9
"""The share of replicates that must define a metric for its interval to be given."""
_CELLS = 2**20  # of a chunk: replicates x rows

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Interval:
    """A metric with the interval of its replicates.

    Attributes:
        value: on the sample itself; None where it is undefined.
        low: the lower end; None where there is no interval, and `why` says why.
        high: the upper end, likewise.
        why: empty if there is an interval.
    """

    value: float | None
    low: float | None
    high: float | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Draws:
    """The same random draws of groups for every metric, made anew each time they are walked.

    Attributes:
        codes: (n,) the group of each row, 0..n_groups - 1.
        n_groups: how many there are.
        replicates: how many draws.
        seed: decides them; equal groups, replicates and seed give equal draws, so that the
            difference of two models is taken draw by draw.
    """

    codes: Counts
    n_groups: int
    replicates: int
    seed: int

    def chunks(self) -> Iterator[Counts]:
        """Yield how often each group is drawn, (b, n_groups) int32, until b adds up."""
        # a draw is a draw of its own number, whatever chunk it falls into
        size = max(1, _CELLS // max(len(self.codes), 1))
        rng = np.random.Generator(np.random.Philox(self.seed))
        for start in range(0, self.replicates, size):
            b = min(size, self.replicates - start)
            drawn = rng.integers(0, self.n_groups, size=(b, self.n_groups), dtype=np.int32)
            flat = drawn + np.arange(b, dtype=np.int32)[:, None] * np.int32(self.n_groups)
            counts = np.bincount(flat.ravel(), minlength=b * self.n_groups)
            yield counts.reshape(b, self.n_groups).astype(np.int32)


def draws(
    groups: Sequence[str] | npt.ArrayLike | None,
    n_rows: int,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Draws:
    """Prepare draws of the groups of n rows; of the rows themselves for `groups=None`.

    Raises:
        DataError: no rows, another number of groups than rows, or no replicates.
    """
    if n_rows < 1 or replicates < 1:
        raise DataError(
            f"Expected rows and replicates to resample, got {n_rows} rows, {replicates} replicates."
        )
    if groups is None:
        codes, n_groups = np.arange(n_rows, dtype=np.int32), n_rows
    else:
        names, found = np.unique(np.asarray(groups), return_inverse=True)
        if len(found) != n_rows:
            raise DataError(f"Expected {n_rows:,} groups, one a row, got {len(found):,}.")
        codes, n_groups = found.astype(np.int32), len(names)
    return Draws(codes, n_groups, replicates, seed)


def interval(
    value: float | None,
    replicated: Floats,
    n_groups: int,
    *,
    effective: float | None = None,
    level: float = LEVEL,
) -> Interval:
    """Put the interval of the replicates around a value.

    The percentile interval is too short for few groups: its tails are widened so that it would be
    the t interval with n - 1 degrees of freedom for a mean (the expanded percentile interval of
    Hesterberg 2015, doi 10.1080/00031305.2015.1089789, equation 10).

    Args:
        value: on the sample itself.
        replicated: one value a replicate; NaN where it is undefined.
        n_groups: how many groups were drawn from.
        effective: how many equally large ones the value rests on, if fewer.
        level: how often the interval should cover, such as 0.95.
    """
    if value is None:
        return Interval(None, None, None, "undefined on these rows")
    if n_groups < 2:
        return Interval(value, None, None, "one group cannot tell how groups differ")
    known = replicated[np.isfinite(replicated)]
    share = len(known) / len(replicated)
    if share < LEAST_DEFINED:
        return Interval(value, None, None, f"defined in only {100 * share:.0f} % of the draws")
    tail = expanded_tail(min(n_groups, effective or n_groups), level)
    # else interpolation leaves a trace of the second value, such as 1e-70 where the first is 0
    tail = tail if tail * len(known) > 1e-3 else 0.0
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def unless_constant(found: Interval) -> Interval:
    """No interval where all draws give one value, as when every row is right."""
    if found.low is None or found.low != found.high:
        return found
    return Interval(found.value, None, None, "all draws give the same value and tell nothing")


def expanded_tail(n_groups: float, level: float) -> float:
    """The share of the replicates left out on either side; of fewer than 2 groups as of 2."""
    n_groups = max(n_groups, 2.0)
    t = stats.t.ppf((1 - level) / 2, n_groups - 1)
    return float(stats.norm.cdf(np.sqrt(n_groups / (n_groups - 1)) * t))
