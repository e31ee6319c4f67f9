"""How good predictions are: pure functions of class indices and scores, in float64.

`targets` are (n,) integers 0..K-1 and `scores` or `probs` (n, K) finite floats, one column a
class; n >= 1. A metric that the data cannot define (the AUC of a class without a positive or
without a negative row) is None, never 0.5 and never NaN; a mean over classes is None when one of
them is undefined, so that numbers of two runs are always about the same classes. NaN and infinite
values are errors. The ranking metrics accept any score that orders the rows as the probability
does; `summary` gives them log-odds, which do not saturate.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import thresholds
from histo_mlflow.evaluation.calibration import brier, ece
from histo_mlflow.evaluation.probabilities import (
    Floats,
    Output,
    log_odds,
    log_probabilities,
    probabilities,
)
from histo_mlflow.evaluation.rows import check_indices, checked_rows
from histo_mlflow.evaluation.thresholds import SENSITIVITY, SPECIFICITY


def auc(targets: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Area under the ROC curve in [0, 1]: of class 1 for two classes, else macro one-vs-rest.

    Ties count one half (Hanley and McNeil 1982, doi 10.1148/radiology.143.1.7063747). None when a
    class has no positive or no negative row.

    Raises:
        DataError: shapes differ, no rows, NaN, or a target outside the columns.
    """
    return _one_or_macro(per_class_auc(targets, scores))


def per_class_auc(targets: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[float | None, ...]:
    """Area under the ROC curve of each class against the rest; None where it is undefined.

    Raises:
        DataError: see `auc`.
    """
    truth, values = checked_rows(targets, scores)
    return tuple(
        float(roc_auc_score(truth == k, values[:, k])) if _two_sided(truth == k) else None
        for k in range(values.shape[1])
    )


def average_precision(targets: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Area under precision over recall, as a sum of steps (scikit-learn), in [0, 1].

    Of class 1 for two classes, else the mean over classes against the rest; None as for `auc`.

    Raises:
        DataError: see `auc`.
    """
    truth, values = checked_rows(targets, scores)
    return _one_or_macro(
        tuple(
            float(average_precision_score(truth == k, values[:, k]))
            if _two_sided(truth == k)
            else None
            for k in range(values.shape[1])
        )
    )


def accuracy(targets: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """Share of rows whose largest probability is the true class's; the first class on a tie.

    Raises:
        DataError: see `auc`.
    """
    truth, values = checked_rows(targets, probs)
    return float(np.mean(values.argmax(axis=1) == truth))


def balanced_accuracy(targets: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """Mean share of right rows over the classes that occur, in [0, 1].

    As scikit-learn's `balanced_accuracy_score`: a class without rows has no share to average, so
    with one class only this is the accuracy.

    Raises:
        DataError: see `auc`.
    """
    truth, values = checked_rows(targets, probs)
    rows = np.bincount(truth, minlength=values.shape[1])
    right = np.bincount(truth[values.argmax(axis=1) == truth], minlength=values.shape[1])
    occurs = rows > 0
    return float(np.mean(right[occurs] / rows[occurs]))


def f1(targets: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """Harmonic mean of precision and recall of the likeliest class, in [0, 1].

    Of class 1 for two classes, else the mean over the classes that occur among truth or
    predictions; 0 for a class that is never hit (scikit-learn's `f1_score`).

    Raises:
        DataError: see `auc`.
    """
    truth, values = checked_rows(targets, probs)
    said = values.argmax(axis=1)
    k = values.shape[1]
    hits = np.bincount(truth[said == truth], minlength=k)
    both = np.bincount(truth, minlength=k) + np.bincount(said, minlength=k)
    if k == 2:
        return float(2 * hits[1] / both[1]) if both[1] else 0.0
    occurs = both > 0
    return float(np.mean(2 * hits[occurs] / both[occurs]))


def sensitivity_at_specificity(targets: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """The best sensitivity of any threshold with at least 95 % specificity, in [0, 1].

    Of class 1 for two classes, else the mean over the classes against the rest; None as for `auc`.

    Raises:
        DataError: see `auc`.
    """
    return _by_class(thresholds.sensitivity_at_specificity, targets, scores)


def specificity_at_sensitivity(targets: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """The best specificity of any threshold with at least 95 % sensitivity; see the reverse.

    Raises:
        DataError: see `auc`.
    """
    return _by_class(thresholds.specificity_at_sensitivity, targets, scores)


def _by_class(
    metric: Callable[[npt.NDArray[np.bool_], Floats], float | None],
    targets: npt.ArrayLike,
    scores: npt.ArrayLike,
) -> float | None:
    truth, values = checked_rows(targets, scores)
    return _one_or_macro(tuple(metric(truth == k, values[:, k]) for k in range(values.shape[1])))


def log_loss(targets: npt.ArrayLike, logits: npt.ArrayLike, output: Output) -> float:
    """Mean of -log(probability of the true class), in nats, >= 0.

    Taken from the logits, so it stays finite and exact where the probability itself rounds to 0.

    Raises:
        DataError: see `auc`.
    """
    truth, values = checked_rows(targets, log_probabilities(logits, output))
    return float(-np.mean(values[np.arange(len(truth)), truth]))


def confusion_counts(
    targets: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int
) -> npt.NDArray[np.int64]:
    """Count rows by true class (axis 0) and predicted class (axis 1): (K, K) int64.

    Raises:
        DataError: an index outside the classes, or lengths that differ.
    """
    truth, said = np.asarray(targets), np.asarray(predicted)
    if truth.shape != said.shape or truth.ndim != 1:
        raise DataError(f"Expected two lists of one length, got {truth.shape} and {said.shape}.")
    for indices in (truth, said):
        check_indices(indices, n_classes)
    flat = np.bincount(truth * n_classes + said, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes).astype(np.int64)


def summary(
    targets: npt.ArrayLike, logits: npt.ArrayLike, output: Output, classes: Sequence[str]
) -> dict[str, float]:
    """Compute every metric of one split; what is undefined is left out.

    Args:
        targets: (n,) class indices.
        logits: (n, K) for softmax, (n, 1) for sigmoid.
        output: how logits become probabilities.
        classes: K names.

    Returns:
        `auc`, `average_precision`, `accuracy`, `balanced_accuracy`, `f1`, `brier`, `ece`,
        `log_loss`, `sensitivity_at_95_specificity` and `specificity_at_95_sensitivity`, and for
        more than two classes `auc_<class>` of each; plain finite floats. Of class 1 for two
        classes, else means over the classes (accuracy, Brier score, loss and ECE are of all rows).

    Raises:
        DataError: see `auc`; also when names and logits do not fit together.
    """
    probs, ranks = probabilities(logits, output), log_odds(logits, output)
    if len(classes) != probs.shape[1]:
        raise DataError(f"Expected {probs.shape[1]} class names for the logits, got {classes!r}.")
    by_class = per_class_auc(targets, ranks)
    found: dict[str, float | None] = {
        "auc": _one_or_macro(by_class),
        "average_precision": average_precision(targets, ranks),
        "accuracy": accuracy(targets, probs),
        "balanced_accuracy": balanced_accuracy(targets, probs),
        "f1": f1(targets, probs),
        "brier": brier(targets, probs),
        "ece": ece(targets, probs),
        "log_loss": log_loss(targets, logits, output),
        SENSITIVITY: sensitivity_at_specificity(targets, ranks),
        SPECIFICITY: specificity_at_sensitivity(targets, ranks),
    }
    if len(classes) > 2:
        found |= {f"auc_{name}": value for name, value in zip(classes, by_class, strict=True)}
    return {name: value for name, value in found.items() if value is not None}


def _one_or_macro(by_class: tuple[float | None, ...]) -> float | None:
    if len(by_class) == 2:
        return by_class[1]
    known = [value for value in by_class if value is not None]
    return float(np.mean(known)) if len(known) == len(by_class) else None


def _two_sided(positive: npt.NDArray[np.bool_]) -> bool:
    return bool(positive.any() and not positive.all())
