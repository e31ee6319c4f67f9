"""Every metric of a split of a predictions table, with its interval by group and the naive one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from histo_mlflow.evaluation import delong, metrics, predictions
from histo_mlflow.evaluation.bootstrap import Draws, draws, interval, unless_constant
from histo_mlflow.evaluation.probabilities import Floats, log_odds, log_probabilities
from histo_mlflow.evaluation.replicates import MOST_CLASSES, Sample, sample
from histo_mlflow.evaluation.thresholds import SENSITIVITY, SPECIFICITY

ORDER = (
    "auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "sensitivity",
    "specificity", "recall", "precision", SENSITIVITY, SPECIFICITY, "log_loss", "brier", "ece",
)  # fmt: skip
"""Of the metrics in every table."""
BY_CLASS = ("auc", "average_precision", "balanced_accuracy", "f1", SENSITIVITY, SPECIFICITY)
"""Overall metrics that are means over classes."""


@dataclass(frozen=True)
class Measured:
    """A metric of a split, with intervals.

    Attributes:
        metric: such as "auc".
        label: the class that it is of; None for all.
        value: None where it is undefined.
        low: lower end of the interval by group; None where there is none, and `why` says why.
        high: its upper end.
        naive_low: as if every image were a group of its own.
        naive_high: its upper end.
        why: empty where value and interval are there.
    """

    metric: str
    label: str | None
    value: float | None
    low: float | None
    high: float | None
    naive_low: float | None
    naive_high: float | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values, `label` as "class"."""
        found = asdict(self)
        return {"metric": found.pop("metric"), "class": found.pop("label"), **found}


def sample_of(rows: pd.DataFrame, drawn_from: Draws) -> Sample:
    """Prepare the rows of a predictions table for draws of their groups."""
    output, truth = predictions.output_of(rows), predictions.targets_of(rows)
    logits = predictions.logits_of(rows)
    losses = -log_probabilities(logits, output)[np.arange(len(truth)), truth]
    return sample(
        truth, predictions.probabilities_of(rows), losses, log_odds(logits, output), drawn_from
    )


def measure(rows: pd.DataFrame, by_group: Draws, notes: list[str]) -> list[Measured]:
    """Every metric of the rows with both intervals, the overall ones first.

    Args:
        rows: of one split.
        by_group: draws of their groups.
        notes: what could not be computed is added here.
    """
    classes = predictions.classes_of(rows)
    naive = draws(None, len(rows), replicates=by_group.replicates, seed=by_group.seed)
    prepared = sample_of(rows, by_group)
    whole, effective = prepared.whole(), prepared.effective_groups()
    grouped, single = _replicated(rows, by_group), _replicated(rows, naive)
    if len(classes) > MOST_CLASSES:
        notes.append(
            f"{len(classes):,} classes: metrics by class, and the means over them, have no "
            f"interval beyond {MOST_CLASSES}"
        )
        output, truth = predictions.output_of(rows), predictions.targets_of(rows)
        told = metrics.summary(truth, predictions.logits_of(rows), output, classes)
        whole |= {name: told.get(name) for name in BY_CLASS}
    found = []
    for name, value in whole.items():
        metric, label = split_name(name, classes)
        if name not in grouped:
            why = "undefined on these rows" if value is None else "many classes"
            found.append(Measured(metric, label, value, None, None, None, None, why))
            continue
        inner = interval(value, grouped[name], by_group.n_groups, effective=effective.get(name))
        outer = interval(value, single[name], naive.n_groups)
        inner, outer = unless_constant(inner), unless_constant(outer)
        found.append(
            Measured(metric, label, value, inner.low, inner.high, outer.low, outer.high, inner.why)
        )
    undefined = [one for one in found if one.value is None]
    for one in undefined:
        notes.append(f"{one.metric}{f' of {one.label}' if one.label else ''} is {one.why}")
    return sorted(found, key=lambda one: (one.label is not None, ORDER.index(one.metric)))


def delong_of(rows: pd.DataFrame) -> Measured | None:
    """The AUC of two classes with its intervals in closed form; None for more classes."""
    if len(predictions.classes_of(rows)) > 2:
        return None
    positive = predictions.targets_of(rows) == 1
    scores = predictions.log_odds_of(rows)[:, 1]
    inner = delong.auc_interval(positive, scores, rows["group"])
    outer = delong.auc_interval(positive, scores)
    ends = (inner.low, inner.high, outer.low, outer.high)
    whole = metrics.auc(predictions.targets_of(rows), predictions.log_odds_of(rows))
    return Measured("auc", None, whole, *ends, inner.why)


def _replicated(rows: pd.DataFrame, drawn_from: Draws) -> Mapping[str, Floats]:
    prepared = sample_of(rows, drawn_from)
    parts = [prepared.of(counts) for counts in drawn_from.chunks()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def split_name(name: str, classes: Sequence[str]) -> tuple[str, str | None]:
    """Take "auc_3" apart into the metric and the class."""
    metric, _, number = name.rpartition("_")
    return (metric, classes[int(number)]) if number.isdigit() else (name, None)
