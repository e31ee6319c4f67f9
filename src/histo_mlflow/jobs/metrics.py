"""The metrics of a run, under the names that MLflow shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from histo_mlflow.evaluation.metrics import summary
from histo_mlflow.evaluation.probabilities import Output

EPOCH_METRICS = ("loss", "auc", "average_precision", "accuracy", "balanced_accuracy")
"""What is followed over the epochs; the final test split gets the AUC of each class as well."""


def measure(
    targets: np.ndarray, logits: np.ndarray, output: Output, classes: Sequence[str]
) -> dict[str, float]:
    """Metrics of one split under the names that MLflow shows; `loss` is plain cross-entropy."""
    found = summary(targets, logits, output, classes)
    return {"loss": found.pop("log_loss"), **found}


def epoch_measure(
    targets: np.ndarray, logits: np.ndarray, output: Output, classes: Sequence[str]
) -> dict[str, float]:
    """The part of `measure` that is logged every epoch."""
    found = measure(targets, logits, output, classes)
    return {name: found[name] for name in EPOCH_METRICS if name in found}
