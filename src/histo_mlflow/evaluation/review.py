"""Which labels are most likely wrong: confident learning on out-of-fold predictions.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
doi 10.1613/jair.1.12125. Written here because the authors' cleanlab is under the AGPL-3.0, which
does not fit a project under the Apache-2.0.

Every row must be predicted by a model that has not seen its image: a model that has learnt a wrong
label by heart is confident of it.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.predictions import (
    attributes_of,
    classes_of,
    probabilities_of,
    targets_of,
)
from histo_mlflow.evaluation.probabilities import Floats
from histo_mlflow.evaluation.rows import Indices, checked_rows

COLUMNS = (
    "rank",
    "id",
    "group",
    "label",
    "suggested",
    "p_label",
    "p_suggested",
    "margin",
    "issue",
)
_CELLS = 2**22  # of a chunk: rows x classes
_ROUNDING = 1e-9  # a mean of equal numbers may come out above all of them


def review_queue(table: pd.DataFrame) -> pd.DataFrame:
    """Rank all labels of a predictions table, those most likely wrong first.

    A class's threshold is the mean probability of the class over the rows labelled so. A row is an
    issue where the likeliest of the classes whose thresholds it reaches is not its label (off the
    diagonal of the confident joint). Issues come first, then, within both, the lowest margin; equal
    margins go by id. A class that no row is labelled with has no threshold and is never an issue's
    suggestion.

    Args:
        table: a predictions table; each row by a model that did not see the image.

    Returns:
        One row a row of the table: `rank` (from 1), `id`, `group`, `label`, `suggested` (of an
        issue the class whose threshold it reaches, else the likeliest class, which may be the label
        itself), `p_label`, `p_suggested`, `margin` (p of the label minus the largest other, -1 to
        1: Northcutt et al., "normalized margin"), `issue`, then what else the table knows of an
        image.

    Raises:
        DataError: no rows, NaN, or rows of fewer than two labels.
    """
    targets, p = _checked(table)
    confident = _confident(targets, p)
    rows = np.arange(len(p))
    issue = (confident >= 0) & (confident != targets)
    suggested = np.where(issue, confident, p.argmax(axis=1))
    names = np.asarray(classes_of(table), dtype=object)
    queue = pd.DataFrame(
        {
            "rank": 0,
            "id": table["id"].to_numpy(),
            "group": table["group"].to_numpy(),
            "label": table["label"].to_numpy(),
            "suggested": names[suggested],
            "p_label": p[rows, targets],
            "p_suggested": p[rows, suggested],
            "margin": p[rows, targets] - _largest_other(targets, p),
            "issue": issue,
        }
    )
    for name, values in attributes_of(table).items():
        queue[name if name not in COLUMNS else f"slice_{name}"] = values.to_numpy()
    order = np.lexsort((queue["id"].to_numpy(dtype=str), queue["margin"], ~queue["issue"]))
    queue = queue.iloc[order].reset_index(drop=True)
    queue["rank"] = np.arange(1, len(queue) + 1)
    return queue


def estimated_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Estimate how many labels of one class should be another.

    The confident joint, each label's row of it scaled to the number of rows with that label
    (Northcutt et al., the estimate of Q). What the model itself gets wrong with confidence is
    counted too, so a weak model makes it too high.

    Args:
        table: as for `review_queue`.

    Returns:
        One row a pair of classes that occurs, most wrong labels first: `label`, `suggested`,
        `counted` (rows off the diagonal of the confident joint), `estimated` (wrong labels of this
        kind, a float), `share` (of the rows with that label). Empty if nothing is off the diagonal.

    Raises:
        DataError: as for `review_queue`.
    """
    targets, p = _checked(table)
    confident = _confident(targets, p)
    counted = pd.DataFrame({"label": targets, "suggested": confident})[confident >= 0]
    joint = counted.value_counts(sort=False).rename("counted").reset_index()
    per_label = np.bincount(targets, minlength=p.shape[1])
    in_joint = np.bincount(joint["label"], weights=joint["counted"], minlength=p.shape[1])
    joint["share"] = joint["counted"] / in_joint[joint["label"]]
    joint["estimated"] = joint["share"] * per_label[joint["label"]]
    wrong = joint[joint["label"] != joint["suggested"]]
    wrong = wrong.sort_values(["estimated", "label", "suggested"], ascending=[False, True, True])
    names = np.asarray(classes_of(table), dtype=object)
    return pd.DataFrame(
        {
            "label": names[wrong["label"].to_numpy()],
            "suggested": names[wrong["suggested"].to_numpy()],
            "counted": wrong["counted"].to_numpy(),
            "estimated": wrong["estimated"].to_numpy(),
            "share": wrong["share"].to_numpy(),
        }
    )


def review_notes(table: pd.DataFrame) -> list[str]:
    """Say in sentences what the queue cannot tell: classes that no row is labelled with."""
    classes = classes_of(table)
    rows = np.bincount(targets_of(table), minlength=len(classes))
    absent = [name for name, n in zip(classes, rows, strict=True) if not n]
    if not absent:
        return []
    shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5:,} more" if len(absent) > 5 else "")
    return [f"No image is labelled {shown}: these are never an issue's suggestion."]


def _checked(table: pd.DataFrame) -> tuple[Indices, Floats]:
    targets, p = checked_rows(targets_of(table), probabilities_of(table))
    if targets.min() == targets.max():
        raise DataError(
            f"Expected labels of two or more classes to find wrong ones among, got "
            f"{len(targets):,} rows all labelled {table['label'].iloc[0]!r}."
        )
    return targets, p


def _confident(targets: Indices, p: Floats) -> npt.NDArray[np.int64]:
    """The likeliest class whose threshold each row reaches, its label on a tie; -1 for none."""
    n, k = p.shape
    rows = np.bincount(targets, minlength=k)
    own = np.bincount(targets, weights=p[np.arange(n), targets], minlength=k)
    thresholds = np.where(rows > 0, own / np.maximum(rows, 1), np.inf) * (1 - _ROUNDING)
    found = np.empty(n, dtype=np.int64)
    for chunk in _chunks(n, k):
        reached = np.where(p[chunk] >= thresholds, p[chunk], -1.0)
        likeliest = reached.max(axis=1)
        label = targets[chunk]
        tied = reached[np.arange(len(reached)), label] == likeliest
        other = np.where(tied, label, reached.argmax(axis=1))
        found[chunk] = np.where(likeliest >= 0, other, -1)
    return found


def _largest_other(targets: Indices, p: Floats) -> Floats:
    """The largest probability of a class that is not the label, (n,)."""
    largest = np.empty(len(p))
    for chunk in _chunks(*p.shape):
        others = p[chunk].copy()
        others[np.arange(len(others)), targets[chunk]] = -1.0
        largest[chunk] = others.max(axis=1)
    return largest


def _chunks(n: int, k: int) -> Iterator[slice]:
    """Rows in portions, so that ten thousand classes need no second copy of the table."""
    step = max(1, _CELLS // k)
    return (slice(start, start + step) for start in range(0, n, step))
