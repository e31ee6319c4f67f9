"""Every metric on every draw of the bootstrap at once.

A draw says how often each group counts, so a metric of a draw is a metric of weighted rows. Sums
over rows (accuracy, Brier, log loss, confusion, calibration bins) become sums over groups, one
matrix product for all draws. Ranking metrics are taken from the rows sorted once: with the weights
of the negatives below and the positives above each positive row everything follows, ties counting
one half. No draw is sorted or handed to scikit-learn by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from histo_mlflow.evaluation.bootstrap import Counts, Draws, Floats
from histo_mlflow.evaluation.calibration import BINS, calibration_bins, squared_errors
from histo_mlflow.evaluation.rows import Indices
from histo_mlflow.evaluation.thresholds import FIXED, SENSITIVITY, SPECIFICITY

MOST_CLASSES = 100
"""With more, nothing by class is replicated: ranking and per-class sums would take minutes."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """One class against the rest, its rows sorted by score; what draws have in common."""

    negative_codes: Counts
    positive_codes: Counts
    below: Indices
    not_above: Indices
    positives_from: Indices


def rank(positive: npt.NDArray[np.bool_], scores: Floats, codes: Counts) -> Ranked:
    """Sort rows by score and find, for each positive, how many negatives are below or tied.

    Args:
        positive: (n,) which rows are of the class.
        scores: (n,) finite, higher means likelier.
        codes: (n,) the group of each row.
    """
    order = np.argsort(scores, kind="stable")
    ranked, is_positive = scores[order], positive[order]
    up, down = ranked[is_positive], ranked[~is_positive]
    return Ranked(
        negative_codes=codes[order][~is_positive],
        positive_codes=codes[order][is_positive],
        below=np.searchsorted(down, up, side="left"),
        not_above=np.searchsorted(down, up, side="right"),
        positives_from=np.searchsorted(up, up, side="left"),
    )


def ranking(ranked: Ranked, counts: Counts) -> dict[str, Floats]:
    """AUC, average precision, and sensitivity and specificity at a fixed other one, of b draws.

    Returns:
        name -> (b,) values in [0, 1]; NaN where a draw has no positive or no negative.
    """
    weights = counts[:, ranked.positive_codes].astype(np.float64)
    negatives = _running(counts[:, ranked.negative_codes])
    positives = _running(weights)
    all_negative = negatives[:, -1:].astype(np.float64)
    all_positive = positives[:, -1:]
    lower, tied = negatives[:, ranked.below], negatives[:, ranked.not_above]
    false_positives = all_negative - lower
    true_positives = all_positive - positives[:, ranked.positives_from]
    with np.errstate(divide="ignore", invalid="ignore"):
        both = all_positive * all_negative
        auc = (weights * (lower + tied)).sum(axis=1, keepdims=True) / (2 * both)
        precision = true_positives / (true_positives + false_positives)
        counted = np.where(weights > 0, weights * precision, 0.0)
        average = counted.sum(axis=1, keepdims=True) / all_positive
        # 1e-9: 0.05 of 20 rows is one row, whatever the rounding
        allowed = false_positives <= (1 - FIXED) * all_negative + 1e-9
        sensitivity = (weights * allowed).sum(axis=1, keepdims=True) / all_positive
        enough = true_positives >= FIXED * all_positive - 1e-9
        fewest = np.where(enough, false_positives, np.inf).min(
            axis=1, keepdims=True, initial=np.inf
        )
        specificity = 1 - fewest / all_negative
    defined = both > 0
    return {
        name: np.where(defined, values, np.nan)[:, 0]
        for name, values in (
            ("auc", auc),
            ("average_precision", average),
            (SENSITIVITY, sensitivity),
            (SPECIFICITY, specificity),
        )
    }


def _running(weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cumulative sums over the rows, with a 0 before the first: (b, n + 1)."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1), dtype=weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the rows of each group, (n_groups, m); a draw's sums are `counts @ sums`."""

    columns: Floats
    n_classes: int
    """0 where there are too many to count by class."""

    def of(self, counts: Counts) -> dict[str, Floats]:
        """Accuracy, Brier score, log loss, ECE and what is counted by class, of b draws."""
        drawn = counts.astype(np.float64) @ self.columns
        rows, right, brier, loss = drawn[:, :4].T
        gaps = drawn[:, 4 : 4 + BINS]
        with np.errstate(invalid="ignore"):  # a draw may hold none of the rows
            found = {
                "accuracy": right / rows,
                "brier": brier / rows,
                "log_loss": loss / rows,
                "ece": np.abs(gaps).sum(axis=1) / rows,
            }
        return found | (self._by_class(drawn[:, 4 + BINS :]) if self.n_classes else {})

    def _by_class(self, drawn: Floats) -> dict[str, Floats]:
        """Balanced accuracy, F1, precision and recall from rows by true and predicted class."""
        k = self.n_classes
        true, said, hit = (drawn[:, i * k : (i + 1) * k] for i in range(3))
        occurs, named = (self._occurs(4 + BINS + i * k) for i in range(2))
        with np.errstate(divide="ignore", invalid="ignore"):
            recall, precision = hit / true, hit / said
            f1 = 2 * hit / (true + said)
        found = {"balanced_accuracy": _mean_of(recall, occurs)}
        if k == 2:
            # scikit-learn: 0 where class 1 is neither there nor said
            found["f1"] = np.where(true[:, 1] + said[:, 1] > 0, f1[:, 1], 0.0)
            found |= {"sensitivity": recall[:, 1], "specificity": recall[:, 0]}
            return found | {"precision": precision[:, 1]}
        found["f1"] = _mean_of(f1, occurs | named)
        for c in range(k):
            found |= {f"recall_{c}": recall[:, c], f"precision_{c}": precision[:, c]}
        return found

    def _occurs(self, first: int) -> npt.NDArray[np.bool_]:
        return np.asarray(self.columns[:, first : first + self.n_classes].any(axis=0))


def sums(truth: Indices, probs: Floats, losses: Floats, drawn_from: Draws) -> Sums:
    """Add up what the sums over rows need, by group.

    Args:
        truth: (n,) class indices.
        probs: (n, K) probabilities.
        losses: (n,) -log of the true class's probability.
        drawn_from: whose groups the rows are summed over.
    """
    n, k = probs.shape
    said = probs.argmax(axis=1)
    right = said == truth
    bins, gap = calibration_bins(truth, probs)
    plain = np.stack([np.ones(n), right, squared_errors(truth, probs), losses], axis=1)
    blocks = [plain, np.eye(BINS)[bins] * gap[:, None]]
    if k <= MOST_CLASSES:
        one_hot = np.eye(k)
        blocks += [one_hot[truth], one_hot[said], one_hot[truth] * right[:, None]]
    codes, groups = drawn_from.codes, drawn_from.n_groups
    columns = [np.bincount(codes, weights=c, minlength=groups) for b in blocks for c in b.T]
    return Sums(np.stack(columns, axis=1), k if k <= MOST_CLASSES else 0)


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of which metrics are taken, however often each group of them counts."""

    summed: Sums
    ranked: Mapping[int, Ranked]

    def of(self, counts: Counts) -> dict[str, Floats]:
        """Each metric of b draws, (b,); NaN where a draw leaves it undefined."""
        found = self.summed.of(counts)
        by_class = {c: ranking(one, counts) for c, one in self.ranked.items()}
        for name in next(iter(by_class.values()), {}):
            columns = {c: values[name] for c, values in by_class.items()}
            if len(columns) > 1:
                found |= {f"{name}_{c}": column for c, column in columns.items()}
            # a mean over classes is undefined where one of them is
            found[name] = np.mean(list(columns.values()), axis=0)
        return found

    def whole(self) -> dict[str, float | None]:
        """Each metric of the rows as they are; None where it is undefined."""
        found = self.of(np.ones((1, len(self.summed.columns)), dtype=np.int32))
        values = {name: float(column[0]) for name, column in found.items()}
        return {name: value if np.isfinite(value) else None for name, value in values.items()}

    def effective_groups(self) -> dict[str, float]:
        """How many equally large groups each metric rests on, for the tails of its interval.

        A metric of a class rests on the groups that hold the class, and little on those with few
        rows of it: Kish's effective size of those groups (1965, "Survey Sampling", section 8.2). An
        AUC has as many as the poorer of its two sides; a mean over classes the harmonic mean over
        the classes that occur.
        """
        rows = self.summed.columns[:, 0]
        found = dict.fromkeys(("accuracy", "brier", "log_loss", "ece"), _kish(rows))
        k = self.summed.n_classes
        if not k:
            return found
        true = self.summed.columns[:, 4 + BINS : 4 + BINS + k]
        of_class = [_kish(true[:, c]) for c in range(k)]
        sides = [min(of_class[c], _kish(rows - true[:, c])) for c in range(k)]
        ranked = ("auc", "average_precision", SENSITIVITY, SPECIFICITY)
        if k == 2:
            found |= dict.fromkeys((*ranked, "balanced_accuracy"), sides[1])
            found |= dict.fromkeys(("sensitivity", "precision", "f1"), of_class[1])
            return found | {"specificity": of_class[0]}
        occurring = [one for one in sides if one > 0]
        overall = len(occurring) / sum(1 / one for one in occurring) if occurring else 0.0
        found |= dict.fromkeys((*ranked, "balanced_accuracy", "f1"), overall)
        for c in range(k):
            found |= {f"{name}_{c}": sides[c] for name in ranked}
            found |= {f"{name}_{c}": of_class[c] for name in ("recall", "precision")}
        return found


def _kish(rows: Floats) -> float:
    """(sum of sizes)^2 / sum of squared sizes; 0 without rows."""
    squares = float((rows**2).sum())
    return float(rows.sum()) ** 2 / squares if squares else 0.0


def sample(
    truth: Indices, probs: Floats, losses: Floats, scores: Floats, drawn_from: Draws
) -> Sample:
    """Prepare rows for `Sample.of` draws of their groups.

    Args:
        truth: (n,) class indices.
        probs: (n, K) probabilities.
        losses: (n,) -log of the true class's probability.
        scores: (n, K) what the ranking metrics run over.
        drawn_from: whose groups the rows are.

    Returns:
        What gives the keys of `metrics.summary`; for two classes also sensitivity, specificity and
        precision of the likeliest class; for more `<metric>_<c>` of class c, the ranking metrics,
        recall and precision. With more than `MOST_CLASSES` only what needs no class: accuracy,
        Brier score, log loss and ECE.
    """
    k = probs.shape[1]
    wanted = [1] if k == 2 else range(k if k <= MOST_CLASSES else 0)
    ranked = {c: rank(truth == c, scores[:, c], drawn_from.codes) for c in wanted}
    return Sample(sums(truth, probs, losses, drawn_from), ranked)


def replicate(
    truth: Indices, probs: Floats, losses: Floats, scores: Floats, drawn_from: Draws
) -> Mapping[str, Floats]:
    """Return each metric of each draw, (replicates,), by name; see `sample`."""
    rows = sample(truth, probs, losses, scores, drawn_from)
    parts = [rows.of(counts) for counts in drawn_from.chunks()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _mean_of(values: Floats, columns: npt.NDArray[np.bool_]) -> Floats:
    """Mean over the classes that occur in the sample; NaN in a draw that lost one of them."""
    return np.asarray(values[:, columns].mean(axis=1))
