"""What a study's parent run carries: the best so far as it grows, and at the end a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from histo_mlflow.jobs.output_folder import replacing
from histo_mlflow.recipe import Recipe
from histo_mlflow.tuning.report import trials_table
from histo_mlflow.tuning.report.figures import draw_study
from histo_mlflow.tuning.report.summary import params_text, summary
from histo_mlflow.tuning.report.trials_table import Direction
from histo_mlflow.tuning.report.turn import its_turn
from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.study.recipe_name import recipe_name

BEST_TRIAL = "histo.study.best_trial"
BEST_RUN = "histo.study.best_run"
BEST_VALUE = "histo.study.best_value"
RECIPE = "best_recipe.yaml"
TABLE = "trials.parquet"
SUMMARY = "study.json"
FIGURES = "figures"


class Carrier(Protocol):
    """The part of `tracking.run.TrackedRun` that is used here."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Take over metrics at a step."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, replacing older values."""


@dataclass(frozen=True)
class Told:
    """What the parent run knows; `Told()` of a run that this process has told nothing.

    Attributes:
        best: points of the best so far: (trials that had ended, value).
        counts: metric -> value.
        tags: as they were set.
    """

    best: tuple[tuple[int, float], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, object] = field(default_factory=dict)


def tell_points(
    run: Carrier, trials: Sequence[FrozenTrial], told: Told, *, metric: str, direction: Direction
) -> Told:
    """Tell the parent run the points that are new since `told`; what is told now.

    Logged are `best/val_auc` (for "val/auc") at each number of ended trials at which it became
    better, and `trials/complete`, `trials/pruned`, ... at the number of ended trials. Nothing is
    sent when no trial has ended since. It does not wait for the store. A process that tells it all
    again, after a restart or on another machine, sends the same points of the same steps.

    Args:
        run: the parent run.
        trials: all of the study.
        told: from the last call, `Told()` at first.
        metric: what a value is, such as "val/auc".
        direction: which way is better.

    Raises:
        DiskError: the journal cannot be written.
    """
    found = trials_table.counts(trials)
    counts = {f"trials/{state}": found[state] for state in attributes.TRIAL_STATES}
    n_ended = sum(counts.values())
    points = tuple(trials_table.best_so_far(trials, direction))
    for n, value in points:
        if (n, value) not in told.best:
            run.log_metrics({best_name(metric): value}, step=n)
    changed = {name: n for name, n in counts.items() if told.counts.get(name) != n}
    if changed and n_ended:
        run.log_metrics(changed, step=n_ended)
    return replace(told, best=points, counts=counts)


def tell_tags(
    run: Carrier, trials: Sequence[FrozenTrial], told: Told, *, direction: Direction
) -> Told:
    """Set `histo.study.best_trial`, `best_run` and `best_value` where they are not as in `told`.

    Raises:
        TrackingError: the store failed.
    """
    tags = _tags(trials_table.best(trials, direction))
    if tags and tags != told.tags:
        run.set_tags(tags)
    return replace(told, tags=tags)


def best_name(metric: str) -> str:
    """The parent run's metric: "best/val_auc" of "val/auc"; MLflow groups by the first part."""
    return "best/" + metric.replace("/", "_")


@dataclass(frozen=True)
class Report:
    """What `write_report` has written.

    Attributes:
        folder: holds it all, ready to be uploaded.
        summary: as `summary.summary` makes it; also in study.json.
        recipe: the best trial's, as a file for `histo-mlflow train --dataset`; None without one.
        undrawn: picture -> why it was not drawn.
    """

    folder: Path
    summary: Mapping[str, Any]
    recipe: Path | None
    undrawn: Mapping[str, str]


def write_report(
    folder: Path,
    study: Study,
    recipe_of: Callable[[FrozenTrial, str], Recipe],
    *,
    metric: str,
    axes: Sequence[str],
    step: str = "epoch",
    limit: int | None = None,
    active_seconds: float | None = None,
    upload: Callable[[Path], None] = lambda folder: None,
) -> Report:
    """Write figures/, trials.parquet, study.json and, of the best trial, best_recipe.yaml.

    The folder is there whole or as it was before; an earlier report in it is replaced. Who writes
    it at the same time waits until it is uploaded.

    Args:
        folder: for the report alone; a lock lies beside it.
        study: with one direction; of any age.
        recipe_of: of a trial, the recipe under a name.
        metric: what a value is, such as "val/auc".
        axes: names, in the order of the study file.
        step: what an intermediate value is of: epoch or fold.
        limit: how many trials there are to be; None: no limit.
        active_seconds: how long anybody was at work on it; None: not known.
        upload: is given the folder, which nobody replaces meanwhile.

    Raises:
        RecipeError: the best trial's recipe is not valid.
        DiskError: the folder cannot be written.
        HistoMlflowError: as `upload`.
    """
    direction: Direction = "maximize" if study.direction is StudyDirection.MAXIMIZE else "minimize"
    trials = study.get_trials(deepcopy=False)
    found = summary(
        study.study_name,
        trials,
        metric=metric,
        direction=direction,
        axes=axes,
        limit=limit,
        active_seconds=active_seconds,
    )
    best = trials_table.best(trials, direction)
    with its_turn(folder.parent):
        with replacing(folder) as new:
            undrawn = draw_study(study, new / FIGURES, metric=metric, step=step)
            listed = trials_table.with_a_place(trials, limit)
            table = trials_table.trials_table(listed, metric=metric, axes=axes)
            trials_table.save(table, new / TABLE)
            if best is not None:
                recipe = _best_recipe(study.study_name, best, recipe_of, metric)
                (new / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
            text = json.dumps({**found, "not_drawn": undrawn}, indent=2, ensure_ascii=False)
            (new / SUMMARY).write_text(text + "\n", encoding="utf-8")
        upload(folder)
    return Report(folder, found, folder / RECIPE if best is not None else None, undrawn)


def _best_recipe(
    study: str,
    best: FrozenTrial,
    recipe_of: Callable[[FrozenTrial, str], Recipe],
    metric: str,
) -> Recipe:
    epoch = best.user_attrs.get(attributes.BEST_EPOCH)
    at = "" if epoch is None else f" at epoch {epoch}"
    said = f"best of study {study}: trial {best.number}, {metric} {best.value:.4f}{at}"
    recipe = recipe_of(best, recipe_name(f"{study}-best"))
    return recipe.model_copy(update={"summary": f"{said} ({params_text(best.params)})"})


def _tags(best: FrozenTrial | None) -> dict[str, object]:
    if best is None:
        return {}
    found: dict[str, object] = {BEST_TRIAL: best.number, BEST_VALUE: best.value}
    run_id = best.user_attrs.get(attributes.RUN_ID)
    return found if run_id is None else {**found, BEST_RUN: run_id}
