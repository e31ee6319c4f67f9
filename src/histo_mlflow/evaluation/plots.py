"""Figures of a run: all but the grids of images.

Every function returns a matplotlib Figure made without pyplot; `save` (from `style`) writes it.
Counts are stated in every figure; what is undefined is said to be so, not drawn.
"""

from histo_mlflow.evaluation._confusion import confusion
from histo_mlflow.evaluation._curves import precision_recall, roc
from histo_mlflow.evaluation._learning_curves import learning_curves
from histo_mlflow.evaluation._metric_figures import class_bars, metric_intervals
from histo_mlflow.evaluation._reliability import reliability
from histo_mlflow.evaluation._slices_figure import slices_figure
from histo_mlflow.evaluation.style import save

__all__ = [
    "class_bars",
    "confusion",
    "learning_curves",
    "metric_intervals",
    "precision_recall",
    "reliability",
    "roc",
    "save",
    "slices_figure",
]
