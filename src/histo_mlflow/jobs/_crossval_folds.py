"""One fold of a cross-validation: its run found or begun, trained, and noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from histo_mlflow.errors import HistoMlflowError, ResumeError
from histo_mlflow.jobs._crossval_plan import Fold, Notes, write_notes
from histo_mlflow.jobs.opening import Child
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import TrainResult
from histo_mlflow.tracking.lifecycle import run_of_key
from histo_mlflow.tracking.run import TrackedRun


@dataclass(frozen=True)
class Parent:
    """A cross-validation that is being written.

    Attributes:
        run: the parent run.
        experiment: name of the one that it lies in.
        ready: data and recipe, which is that of the first fold.
        folder: of the parent.
        facts: of the parent.
        name: of the parent, which the folds' names begin with.
        runs_dir: the folds' folders go in here.
        talk: says what happens.
    """

    run: TrackedRun
    experiment: str
    ready: Ready
    folder: RunFolder
    facts: RunFacts
    name: str
    runs_dir: Path
    talk: Talk

    def folder_of(self, run_id: str) -> RunFolder:
        """The folder of a fold's run."""
        return RunFolder(self.runs_dir / run_id)


def train_fold(
    parent: Parent, notes: Notes, fold: Fold, trained: Callable[..., TrainResult]
) -> Notes:
    """Train one fold, or go on with it; nothing is trained where it is finished.

    Args:
        parent: gets the fold's test metrics, with its number as the step.
        notes: are written as soon as the fold has a run.
        fold: which one.
        trained: `train` with all that is the same for every fold.

    Returns:
        The notes with the fold's run.

    Raises:
        HistoMlflowError: as `train`.
        Interrupted: as `train`.
    """
    known = _known_run(parent, notes, fold)
    try:
        done = trained(
            fold.recipe(parent.ready.recipe),
            run_name=f"{parent.name}, fold {fold.number}{' row-wise' * (fold.how == 'row')}",
            run_dir=None if known is None else parent.folder_of(known).path,
            child=Child(
                parent=parent.run.run_id,
                key=_key(parent, fold),
                tags={"histo.crossval.split": fold.how, "histo.crossval.fold": fold.number},
                plan=parent.facts.plan,
                begun=lambda run_id: write_notes(parent.folder, notes.with_run(fold, run_id)),
            ),
        )
    except HistoMlflowError as error:
        error.add_note(f"in fold {fold.number} by {fold.how} of {parent.run.run_id}")
        raise
    noted = notes.with_run(fold, done.run_id)
    write_notes(parent.folder, noted)
    prefix = "fold" if fold.how == "group" else "row_fold"
    metrics = {f"{prefix}/{name}": value for name, value in done.test.items()}
    parent.run.log_epoch(fold.number, metrics)
    return noted


def _known_run(parent: Parent, notes: Notes, fold: Fold) -> str | None:
    """The fold's run if it was begun; a process may have been killed before it could be noted."""
    known = notes.runs.get(fold.name)
    if known is None:
        found = run_of_key(parent.run.store, parent.experiment, _key(parent, fold))
        return None if found is None else str(found.info.run_id)
    if parent.folder_of(known).facts() is None:
        raise ResumeError(
            f"fold {fold.number} by {fold.how} is run {known}, whose files are expected in "
            f"{parent.folder_of(known).path}, where there is no run.json; name the place with "
            "--runs-dir"
        )
    return known


def _key(parent: Parent, fold: Fold) -> str:
    return f"{parent.facts.key}-{fold.name}"
