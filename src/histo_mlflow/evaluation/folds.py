"""Cross-validation: the folds' predictions as one table, its metrics, and the leaderboard gap.

Every image is in the test fold of one model, so the tables of the folds together say something of
each image that no model was trained on. Two numbers come of them. The mean over folds treats each
model by itself; its spread (SD) is that of models and images together. The pooled metric is taken
of all rows at once, as if one model had made them; where it ranks rows (AUC, average precision) it
compares scores of different models, whose scales differ, and is usually a little lower.

Both have intervals from the same draws of groups, so that they say how far the number would move
with other slides or patients and the same models; the luck of training is in the SD.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import bootstrap, predictions
from histo_mlflow.evaluation.bootstrap import Draws, Floats, Interval
from histo_mlflow.evaluation.measured import sample_of
from histo_mlflow.evaluation.metrics import summary
from histo_mlflow.evaluation.probabilities import log_probabilities
from histo_mlflow.evaluation.replicates import replicate

FOLD = f"{predictions.SLICE}fold"
"""The column that says which fold's model made a row, as text: "0", "1", ..."""
_NAMED = 3

Value = TypeVar("Value", float, Floats)
Named = TypeVar("Named")


@dataclass(frozen=True, eq=False)
class Measured:
    """Metrics of out-of-fold predictions, with what their intervals are made of.

    Attributes:
        rows: of the table.
        n_groups: in it.
        names: of the metrics, as `metrics.summary` names them, in its order.
        folds: metric -> value of each fold.
        pooled: metric -> value of all rows at once; what is undefined is missing.
        fold_draws: metric -> (replicates,) mean over folds of each draw; NaN where one of them is
            undefined; without those that `replicate` leaves out, of very many classes.
        pooled_draws: metric -> (replicates,) of all rows of each draw.
        effective: metric -> how many groups it rests on (`replicates.Sample.effective_groups`).
    """

    rows: int
    n_groups: int
    names: tuple[str, ...]
    folds: tuple[Mapping[str, float], ...]
    pooled: Mapping[str, float]
    fold_draws: Mapping[str, Floats]
    pooled_draws: Mapping[str, Floats]
    effective: Mapping[str, float]

    def mean(self, name: str) -> float | None:
        """Mean over folds; None where a fold does not define the metric."""
        values = [fold[name] for fold in self.folds if name in fold]
        return float(np.mean(values)) if len(values) == len(self.folds) else None

    def sd(self, name: str) -> float | None:
        """Standard deviation over folds (n - 1); None where a fold does not define the metric."""
        values = [fold[name] for fold in self.folds if name in fold]
        return float(np.std(values, ddof=1)) if len(values) == len(self.folds) else None


@dataclass(frozen=True)
class FoldMetric:
    """One metric of a cross-validation.

    Attributes:
        metric: its name.
        folds: of each fold; None where undefined.
        mean: over folds, with its interval by group.
        sd: over folds.
        pooled: of all rows at once, with its interval by group.
    """

    metric: str
    folds: tuple[float | None, ...]
    mean: Interval
    sd: float | None
    pooled: Interval


@dataclass(frozen=True)
class Gap:
    """How much one way to split flatters: its metric minus the other's, draw by draw."""

    metric: str
    mean: Interval
    pooled: Interval


def joined(tables: Sequence[pd.DataFrame], ids: Sequence[str]) -> pd.DataFrame:
    """Join the test predictions of k folds to one table.

    Args:
        tables: predictions of fold 0 .. k - 1, of its test images alone.
        ids: of all images, each of which must be in exactly one table; the order of the result.

    Returns:
        A predictions table of the split "test" with the number of the fold in `slice_fold`; an
        attribute of that name becomes `slice_fold_given`.

    Raises:
        DataError: fewer than two folds, other classes or outputs in one of them, a row of another
            split, or an image that is in no table, in several, or not among the ids.
    """
    if len(tables) < 2:
        raise DataError(f"Expected the predictions of 2 folds or more, got {len(tables)}.")
    first = tables[0]
    expected = predictions.classes_of(first), predictions.output_of(first)
    for fold, table in enumerate(tables):
        found = predictions.classes_of(table), predictions.output_of(table)
        if found != expected:
            raise DataError(
                f"Expected folds with the same classes and output, got {_shown(expected)} in fold "
                f"0 and {_shown(found)} in fold {fold}."
            )
        if other := sorted(set(table["split"]) - {"test"}):
            raise DataError(
                f"Expected test predictions of fold {fold}, got rows of {', '.join(other)}."
            )
    marked = [
        table.rename(columns={FOLD: f"{FOLD}_given"}).assign(**{FOLD: str(fold)})
        for fold, table in enumerate(tables)
    ]
    together = pd.concat(marked, ignore_index=True)
    _refuse_other_ids(together["id"], ids)
    ordered = together.set_index("id", drop=False).loc[list(ids)].reset_index(drop=True)
    return predictions.validated(ordered)


def measure(
    table: pd.DataFrame, *, replicates: int = bootstrap.REPLICATES, seed: int = 0
) -> Measured:
    """Compute every metric of `metrics.summary` in each fold, over folds, pooled, and on draws.

    A metric that a fold cannot define (a class without images there) has no mean and no SD.

    Args:
        table: from `joined`.
        replicates: draws of groups.
        seed: of the draws; equal groups and seed give equal draws whatever the order of the rows.
    """
    drawn = bootstrap.draws(table["group"].tolist(), len(table), replicates=replicates, seed=seed)
    folds = sorted(set(table[FOLD]), key=int)
    by_fold = [(table[FOLD] == fold).to_numpy() for fold in folds]
    values = [_values(table[rows]) for rows in by_fold]
    # A fold is seen through the draws of all groups, so that one draw is one world for all folds.
    parts = [_replicated(table[rows], _of_rows(drawn, rows)) for rows in by_fold]
    pooled = _values(table)
    known = tuple(dict.fromkeys([*pooled, *(name for fold in values for name in fold)]))
    replicated = _replicated(table, drawn)
    return Measured(
        rows=len(table),
        n_groups=drawn.n_groups,
        names=known,
        folds=tuple(values),
        pooled=pooled,
        fold_draws={
            name: np.mean([part[name] for part in parts], axis=0)
            for name in known
            if all(name in part for part in parts)
        },
        pooled_draws={name: replicated[name] for name in known if name in replicated},
        effective=_with_class_names(sample_of(table, drawn).effective_groups(), table),
    )


def metrics_of(found: Measured) -> tuple[FoldMetric, ...]:
    """Put intervals around the metrics of a cross-validation."""
    return tuple(
        FoldMetric(
            metric=name,
            folds=tuple(fold.get(name) for fold in found.folds),
            mean=_over_folds(found.mean(name), found.fold_draws.get(name), found, name),
            sd=found.sd(name),
            pooled=_interval(found.pooled.get(name), found.pooled_draws.get(name), found, name),
        )
        for name in found.names
    )


def gaps(flattering: Measured, honest: Measured) -> tuple[Gap, ...]:
    """How much the metrics of one way to split exceed the other's, on the same draws.

    For a loss a gap below 0 is what flatters. A metric that is undefined on one side is so here.

    Args:
        flattering: of the row-wise folds.
        honest: of the folds by group, of the same images and groups, replicates and seed.

    Raises:
        DataError: they are about other rows or groups.
    """
    mine, other = (flattering.rows, flattering.n_groups), (honest.rows, honest.n_groups)
    if mine != other:
        raise DataError(
            f"Expected two cross-validations of the same images, got {mine[0]:,} images of "
            f"{mine[1]:,} groups and {other[0]:,} of {other[1]:,}."
        )
    return tuple(
        Gap(
            metric=name,
            mean=_over_folds(
                _minus(flattering.mean(name), honest.mean(name)),
                _minus(flattering.fold_draws.get(name), honest.fold_draws.get(name)),
                honest,
                name,
            ),
            pooled=_interval(
                _minus(flattering.pooled.get(name), honest.pooled.get(name)),
                _minus(flattering.pooled_draws.get(name), honest.pooled_draws.get(name)),
                honest,
                name,
            ),
        )
        for name in honest.names
        if name in flattering.names
    )


def _over_folds(
    value: float | None, replicated: Floats | None, found: Measured, name: str
) -> Interval:
    if value is None:
        return Interval(None, None, None, "undefined in a fold")
    return _interval(value, replicated, found, name)


def _interval(
    value: float | None, replicated: Floats | None, found: Measured, name: str
) -> Interval:
    if replicated is None:
        return Interval(value, None, None, "not resampled with so many classes")
    effective = found.effective.get(name)
    return bootstrap.interval(value, replicated, found.n_groups, effective=effective)


def _summarised(table: pd.DataFrame) -> tuple[Any, Any]:
    return predictions.targets_of(table), predictions.logits_of(table)


def _values(table: pd.DataFrame) -> dict[str, float]:
    output, classes = predictions.output_of(table), predictions.classes_of(table)
    return summary(*_summarised(table), output, classes)


def _replicated(table: pd.DataFrame, drawn: Draws) -> dict[str, Floats]:
    """Metrics of every draw, with the class's name in place of its number."""
    targets, logits = _summarised(table)
    of_each = log_probabilities(logits, predictions.output_of(table))
    losses = -of_each[np.arange(len(targets)), targets]
    found = replicate(
        targets,
        predictions.probabilities_of(table),
        losses,
        predictions.log_odds_of(table),
        drawn,
    )
    return _with_class_names(found, table)


def _with_class_names(found: Mapping[str, Named], table: pd.DataFrame) -> dict[str, Named]:
    """The same with "auc_mel" for "auc_4"."""
    classes = predictions.classes_of(table)
    named = {f"auc_{k}": f"auc_{name}" for k, name in enumerate(classes)}
    return {named.get(name, name): value for name, value in found.items()}


def _of_rows(drawn: Draws, rows: np.ndarray) -> Draws:
    """The same draws, of some of the rows."""
    return Draws(drawn.codes[rows], drawn.n_groups, drawn.replicates, drawn.seed)


def _refuse_other_ids(found: pd.Series, ids: Sequence[str]) -> None:
    expected = pd.Series(list(ids), dtype="str")
    problems = [
        f"{len(some):,} {what} (first: {', '.join(map(str, some[:_NAMED]))})"
        for what, some in (
            ("in several folds", found[found.duplicated()].unique()),
            ("in no fold", expected[~expected.isin(found)].to_numpy()),
            ("that are not of the data set", found[~found.isin(expected)].to_numpy()),
        )
        if len(some)
    ]
    if problems:
        raise DataError(f"Expected every image in exactly one test fold, got {'; '.join(problems)}")


def _minus(a: Value | None, b: Value | None) -> Value | None:
    return None if a is None or b is None else a - b


def _shown(found: tuple[tuple[str, ...], str]) -> str:
    return f"{', '.join(found[0])} ({found[1]})"
