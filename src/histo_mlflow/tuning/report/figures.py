"""The pictures of a study, in the style of all others.

Optuna's own are drawn with pyplot and its global state, leave out trials with a conditional axis,
and have no room for more than a few axes; only its importances are used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from optuna.study import Study, StudyDirection

from histo_mlflow.evaluation import style
from histo_mlflow.tuning.report import _figure_axes, _figure_history
from histo_mlflow.tuning.report._figure_parallel import parallel_coordinates
from histo_mlflow.tuning.report._figure_view import view
from histo_mlflow.tuning.report.trials_table import Direction

FIGURES = (
    "history.png",
    "intermediate_values.png",
    "importances.png",
    "parallel_coordinates.png",
    "slices.png",
    "rank.png",
)


def draw_study(study: Study, folder: Path, *, metric: str, step: str = "epoch") -> dict[str, str]:
    """Draw what can be drawn of a study's ended trials into a folder; trials that wait or run do
    not matter.

    Args:
        study: with one direction.
        folder: made if need be.
        metric: what a value is, such as "val/auc".
        step: what an intermediate value is of: epoch or fold.

    Returns:
        File name -> why it was not drawn; empty when all were.

    Raises:
        DiskError: a picture cannot be written.
    """
    direction: Direction = "maximize" if study.direction is StudyDirection.MAXIMIZE else "minimize"
    trials = study.get_trials(deepcopy=False)
    shown = view(study.study_name, trials, direction, metric=metric, step=step)
    if not shown.ended:
        return dict.fromkeys(FIGURES, "no trial has ended")
    shares = _figure_axes.shares(study, shown)
    known = {} if isinstance(shares, str) else shares
    drawers: tuple[Callable[[], Figure | str], ...] = (
        lambda: _figure_history.history(shown),
        lambda: _figure_history.intermediate_values(shown),
        lambda: shares if isinstance(shares, str) else _figure_axes.importances(shown, shares),
        lambda: parallel_coordinates(shown),
        lambda: _figure_axes.slices(shown),
        lambda: _figure_axes.rank(shown, tuple(known)),
    )
    undrawn = {}
    for name, draw in zip(FIGURES, drawers, strict=True):
        found = draw()
        if isinstance(found, str):
            undrawn[name] = found
        else:
            style.save(found, folder / name)
    return undrawn
