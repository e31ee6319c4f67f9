"""What ROC and precision-recall figures draw: each class's curve, its area and its band."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from histo_mlflow.evaluation import metrics, predictions
from histo_mlflow.evaluation._bands import Band, precision_band, roc_band
from histo_mlflow.evaluation._drawing import MOST_PANELS
from histo_mlflow.evaluation.bootstrap import REPLICATES, Draws, Floats, Interval, draws, interval
from histo_mlflow.evaluation.replicates import rank, ranking

Positive = npt.NDArray[np.bool_]
Entry = Mapping[str, Any]

_CELLS = 6e7  # replicates x rows x panels that a figure's bands may cost: a few seconds
_LEAST_DRAWS = 500


@dataclass(frozen=True)
class Kind:
    """How the two figures differ."""

    title: str
    area: str
    metric: str
    x: str
    y: str
    points: Callable[[Positive, Floats], tuple[Floats, Floats]]
    band: Callable[[Positive, Floats, Draws], Band | None]
    drawstyle: str
    legend: str


@dataclass(frozen=True, eq=False)
class Curve:
    """One class against the rest; without points where the area is undefined."""

    name: str
    rows: int
    others: int
    area: Interval
    points: tuple[Floats, Floats] | None
    band: Band | None


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves to draw: of class 1 for two classes, else of all, or of many the worst.

    Attributes:
        drawn: the curves.
        areas: of every class, whether it is drawn or not; None where it is undefined.
    """

    drawn: list[Curve]
    areas: list[float | None]


def curves_of(
    kind: Kind,
    rows: pd.DataFrame,
    classes: Sequence[str],
    n_draws: int | None,
    entries: Sequence[Entry] | None,
) -> Curves:
    """Find curves, areas and bands of the rows of one split.

    Args:
        kind: which figure.
        rows: of a predictions table.
        classes: its classes.
        n_draws: draws of groups; None for as many as take some seconds, 0 for no band.
        entries: metrics of the evaluation, whose intervals are taken over.
    """
    truth, scores = predictions.targets_of(rows), predictions.log_odds_of(rows)
    areas = _areas(kind, truth, scores)
    binary = len(classes) == 2
    chosen = [1] if binary else _chosen(areas)
    if n_draws is None:
        affordable = int(_CELLS / (len(rows) * max(len(chosen), 1)))
        n_draws = int(np.clip(affordable, _LEAST_DRAWS, REPLICATES))
    drawn_from = draws(rows["group"], len(rows), replicates=n_draws) if n_draws else None
    known = {entry["class"]: entry for entry in entries or () if entry["metric"] == kind.metric}
    curves = [
        _curve(
            kind,
            classes[k],
            truth == k,
            scores[:, k],
            areas[k],
            drawn_from,
            known.get(None if binary else classes[k]),
        )
        for k in chosen
    ]
    return Curves(curves, areas)


def _roc_points(positive: Positive, scores: Floats) -> tuple[Floats, Floats]:
    fpr, tpr, _ = roc_curve(positive, scores)
    return fpr, tpr


def _precision_points(positive: Positive, scores: Floats) -> tuple[Floats, Floats]:
    precision, recall, _ = precision_recall_curve(positive, scores)
    precision, recall = precision[::-1], recall[::-1]
    # thresholds that only add false positives are no part of the area, nor is scikit-learn's
    # precision of 1 at recall 0
    steps = np.flatnonzero(np.diff(recall) > 0) + 1
    return np.append(0.0, recall[steps]), np.append(precision[steps[0]], precision[steps])


ROC = Kind(
    title="ROC curve",
    area="AUC",
    metric="auc",
    x="false positive rate (1 - specificity)",
    y="true positive rate (sensitivity)",
    points=_roc_points,
    band=roc_band,
    drawstyle="default",
    legend="chance · AUC 0.5",
)
PRECISION_RECALL = Kind(
    title="Precision-recall curve",
    area="AP",
    metric="average_precision",
    x="recall (sensitivity)",
    y="precision (positive predictive value)",
    points=_precision_points,
    band=precision_band,
    drawstyle="steps-pre",
    legend="chance",
)


def _areas(kind: Kind, truth: npt.NDArray[np.int64], scores: Floats) -> list[float | None]:
    if kind.metric == "auc":
        return list(metrics.per_class_auc(truth, scores))
    return [
        float(average_precision_score(truth == k, scores[:, k]))
        if 0 < (truth == k).sum() < len(truth)
        else None
        for k in range(scores.shape[1])
    ]


def _chosen(areas: Sequence[float | None]) -> list[int]:
    """All classes in their order, or of many those of least area, which need looking at."""
    if len(areas) <= MOST_PANELS:
        return list(range(len(areas)))
    known = [(area, k) for k, area in enumerate(areas) if area is not None]
    return [k for _, k in sorted(known)[:MOST_PANELS]]


def _curve(
    kind: Kind,
    name: str,
    positive: Positive,
    scores: Floats,
    area: float | None,
    drawn_from: Draws | None,
    entry: Entry | None,
) -> Curve:
    n = int(positive.sum())
    if area is None:
        why = "no image of this class" if n == 0 else "every image is of this class"
        return Curve(name, n, len(positive) - n, Interval(None, None, None, why), None, None)
    if entry is not None:
        whole = Interval(area, entry["low"], entry["high"], entry["why"])
    elif drawn_from is None:
        whole = Interval(area, None, None)
    else:
        ranked = rank(positive, scores, drawn_from.codes)
        parts = [ranking(ranked, counts)[kind.metric] for counts in drawn_from.chunks()]
        whole = interval(area, np.concatenate(parts), drawn_from.n_groups)
    found = None if drawn_from is None else kind.band(positive, scores, drawn_from)
    return Curve(name, n, len(positive) - n, whole, kind.points(positive, scores), found)
