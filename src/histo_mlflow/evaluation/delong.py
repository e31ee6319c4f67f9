"""The variance of an AUC in closed form, for independent and for clustered rows.

DeLong et al. 1988 (doi 10.2307/2531595) with midranks (Sun and Xu 2014, doi
10.1109/LSP.2014.2337313); by group the sums of Obuchowski 1997 (doi 10.2307/2533958), of which
DeLong's is the case of one row a group (but for a factor of n / (n - 1)).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from histo_mlflow.evaluation.bootstrap import LEVEL, Floats, Interval


def components(positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """How often each positive beats the negatives, (m,), and each negative loses, (n,)."""
    up, down = scores[positive], scores[~positive]
    everything = np.concatenate([up, down])
    within_up, within_down = stats.rankdata(up), stats.rankdata(down)
    ranks = stats.rankdata(everything)
    v10 = (ranks[: len(up)] - within_up) / len(down)
    v01 = 1 - (ranks[len(up) :] - within_down) / len(up)
    return v10, v01


def covariance(
    positive: npt.NDArray[np.bool_],
    scores: Sequence[Floats],
    groups: npt.ArrayLike | None = None,
) -> tuple[Floats, Floats] | None:
    """AUCs of s scores of the same rows, (s,), and their covariance, (s, s).

    Args:
        positive: (n,).
        scores: s times (n,).
        groups: (n,) labels of the groups whose rows depend on each other; None for none.

    Returns:
        None where it is undefined: fewer than two positives or two negatives, or two groups with
        either.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return None
    parts = [components(positive, values) for values in scores]
    aucs = np.array([v10.mean() for v10, _ in parts])
    if groups is None:
        s10 = np.atleast_2d(np.cov(np.stack([v10 for v10, _ in parts])))
        s01 = np.atleast_2d(np.cov(np.stack([v01 for _, v01 in parts])))
        return aucs, s10 / m + s01 / n
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(codes.max()) + 1
    with_up = np.bincount(codes[positive], minlength=count)
    with_down = np.bincount(codes[~positive], minlength=count)
    g10, g01 = int((with_up > 0).sum()), int((with_down > 0).sum())
    if g10 < 2 or g01 < 2:
        return None
    x = np.stack(
        [
            np.bincount(codes[positive], weights=v10 - a, minlength=count)
            for (v10, _), a in zip(parts, aucs, strict=True)
        ]
    )
    y = np.stack(
        [
            np.bincount(codes[~positive], weights=v01 - a, minlength=count)
            for (_, v01), a in zip(parts, aucs, strict=True)
        ]
    )
    s10 = g10 / (g10 - 1) * (x @ x.T) / m**2
    s01 = g01 / (g01 - 1) * (y @ y.T) / n**2
    s11 = count / (count - 1) * (x @ y.T) / (m * n)
    return aucs, s10 + s01 + s11 + s11.T


def auc_interval(
    positive: npt.NDArray[np.bool_],
    scores: Floats,
    groups: npt.ArrayLike | None = None,
    *,
    level: float = LEVEL,
) -> Interval:
    """The AUC with its interval on the logit scale, which stays within (0, 1).

    By group it is a t interval, with one less degrees of freedom than the poorer side has groups of
    equal size (`replicates.Sample.effective_groups`).
    """
    found = covariance(positive, [scores], groups)
    if found is None:
        return Interval(None, None, None, "too few positives or negatives, or groups of them")
    value, variance = float(found[0][0]), float(found[1][0, 0])
    if variance <= 0 or value in (0.0, 1.0):
        return Interval(value, None, None, "no variance in the sample")
    freedom = np.inf if groups is None else max(effective_groups(positive, groups) - 1, 1.0)
    z = stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance) / (value * (1 - value))
    centre = np.log(value / (1 - value))
    low, high = 1 / (1 + np.exp(-(centre + np.array([-z, z]))))
    return Interval(value, float(low), float(high))


def effective_groups(positive: npt.NDArray[np.bool_], groups: npt.ArrayLike) -> float:
    """Kish's effective number of groups of the positives or of the negatives, whichever is less.

    0 without positives or without negatives.
    """
    if positive.all() or not positive.any():
        return 0.0
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    sides = [np.bincount(codes[side]).astype(np.float64) for side in (positive, ~positive)]
    return float(min(rows.sum() ** 2 / (rows**2).sum() for rows in sides))
