"""Two AUCs of the same images in closed form, beside the bootstrap.

DeLong et al. 1988 (doi 10.2307/2531595) for independent images, Obuchowski 1997 (doi
10.2307/2533958) by group; two classes only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from histo_mlflow.evaluation import delong, predictions
from histo_mlflow.evaluation.bootstrap import LEVEL
from histo_mlflow.evaluation.probabilities import Floats

_NO_VARIANCE = 1e-24  # what rounding leaves of none


@dataclass(frozen=True)
class PairedAuc:
    """The difference of two AUCs of two classes in closed form (DeLong; Obuchowski by group).

    Attributes:
        name: of the model.
        difference: to the first model.
        low: lower end of the interval by group; None where there is none.
        high: its upper end.
        p: two-sided, by group, of no difference.
        naive_low: as if every image were a group of its own.
        naive_high: its upper end.
        naive_p: likewise.
        why: why there is no interval.
    """

    name: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    naive_low: float | None
    naive_high: float | None
    naive_p: float | None
    why: str


def paired_aucs(tables: Mapping[str, pd.DataFrame]) -> tuple[PairedAuc, ...]:
    """Compare the AUC of each table with the first one's; nothing for more than two classes.

    Args:
        tables: of the same images in the same order, with the same classes, labels and groups.
    """
    base, *others = tables
    first = tables[base]
    if len(predictions.classes_of(first)) > 2:
        return ()
    positive = predictions.targets_of(first) == 1
    scores = {name: predictions.log_odds_of(table)[:, 1] for name, table in tables.items()}
    found = []
    for name in others:
        pair = [scores[base], scores[name]]
        naive = _of_pair(delong.covariance(positive, pair))
        freedom = max(delong.effective_groups(positive, first["group"]) - 1, 1.0)
        grouped = _of_pair(delong.covariance(positive, pair, first["group"]), freedom)
        why = ""
        if grouped.low is None:
            why = "too few positives or negatives, or groups of them, or no variance"
        gap = grouped.gap if naive.gap is None else naive.gap
        found.append(
            PairedAuc(
                name, gap, grouped.low, grouped.high, grouped.p, naive.low, naive.high, naive.p, why
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class _Gap:
    gap: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def _of_pair(found: tuple[Floats, Floats] | None, freedom: float = np.inf) -> _Gap:
    """Return the second AUC minus the first with its interval (DeLong et al. 1988).

    With few groups it is that of t, as for one AUC (`delong.auc_interval`).
    """
    if found is None:
        return _Gap()
    aucs, covariance = found
    gap = float(aucs[1] - aucs[0])
    contrast = np.array([-1.0, 1.0])
    variance = float(contrast @ covariance @ contrast)
    if variance <= _NO_VARIANCE:
        return _Gap(gap)
    error = float(np.sqrt(variance))
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    return _Gap(gap, gap - reach, gap + reach, float(2 * stats.t.sf(abs(gap) / error, freedom)))
