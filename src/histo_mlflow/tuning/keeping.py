"""Which trials keep their checkpoints: the best few of those that ended, and all that have not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from histo_mlflow.errors import BusyError
from histo_mlflow.jobs.keep import drop_checkpoints
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.tuning.report.trials_table import Direction, in_order_of_value
from histo_mlflow.tuning.shared import attributes as name


def keep_best(
    trials: Sequence[FrozenTrial], runs_dir: Path, *, keep: int, direction: Direction
) -> None:
    """Remove the checkpoints of all ended trials but the best few, where they lie here.

    Can be done by several at once, and again: after every trial, and once more at the end for
    those whose worker died before it could.

    Args:
        trials: of the study, all.
        runs_dir: where the local files of its runs are.
        keep: how many complete trials keep theirs.
        direction: of the study.

    Raises:
        DiskError: the disk refuses.
    """
    kept = {one.number for one in in_order_of_value(trials, direction)[:keep]}
    for trial in trials:
        if not trial.state.is_finished() or trial.number in kept:
            continue
        for run_id in _trained(trial):
            if not RunFolder(runs_dir / run_id).checkpoints.exists():
                continue
            try:
                drop_checkpoints(runs_dir / run_id)
            except BusyError:
                continue  # another worker is just doing it, or has not noticed that it lost it


def _trained(trial: FrozenTrial) -> Iterator[str]:
    """The runs that were trained for a trial: its own, or those of its folds."""
    if (run_id := trial.user_attrs.get(name.RUN_ID)) is not None:
        yield run_id
    yield from trial.user_attrs.get(name.FOLD_RUNS, ())
