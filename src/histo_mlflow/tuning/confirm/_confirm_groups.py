"""A second interval of a gain: the groups of the judged images drawn anew, the models as they are.

The interval over replicates says how the gain would move with other trainings and folds. This one
says how it would move with other lesions, slides or patients, by the paired bootstrap of groups
(`evaluation.folds`). It is given twice. `mean` is the mean over replicates of each fold's metric,
the same number as the gain over replicates. `pooled` takes the metric of all folds at once; it
exists where a fold lacks a class, but an AUC then ranks logits of different models, whose scales
differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from histo_mlflow.errors import StudyError
from histo_mlflow.evaluation import folds, predictions
from histo_mlflow.evaluation.bootstrap import Interval
from histo_mlflow.tuning.confirm.optimism import Direction, sign_of


@dataclass(frozen=True)
class GroupGain:
    """A gain with intervals by group; positive is better.

    Attributes:
        replicates: that both recipes have, by their index.
        rows: images that were judged, each once for either recipe.
        groups: among them.
        mean: of the metric's mean over replicates.
        pooled: of the metric of all rows at once.
    """

    replicates: tuple[int, ...]
    rows: int
    groups: int
    mean: Interval
    pooled: Interval


def measured(tables: Mapping[int, pd.DataFrame], *, draws: int, seed: int) -> folds.Measured:
    """Measure a recipe's validation predictions, replicate by replicate and pooled.

    Args:
        tables: index of the replicate -> predictions table; its rows of the split "val" count.
        draws: of the bootstrap.
        seed: of the draws; recipes that are held against each other need the same one.

    Raises:
        StudyError: an image was judged in two replicates.
        DataError: a table is not valid, or has no row of the split "val".
    """
    return folds.measure(joined(tables), replicates=draws, seed=seed)


def joined(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """The validation rows of all replicates, by id, with the replicate as their fold.

    Raises:
        StudyError: an image was judged in two replicates.
        DataError: a table is not valid, or has no row of the split "val".
    """
    together = pd.concat(
        [
            predictions.of_split(predictions.validated(table), "val").assign(
                **{folds.FOLD: str(index)}
            )
            for index, table in sorted(tables.items())
        ],
        ignore_index=True,
    )
    twice = together["id"][together["id"].duplicated()]
    if len(twice):
        raise StudyError(
            f"Expected every image to be judged in one replicate, but {len(twice):,} were in two, "
            f"first {twice.iloc[0]}: the replicates are not folds of one division"
        )
    return together.sort_values("id", ignore_index=True)


def same_images(one: Mapping[int, pd.DataFrame], other: Mapping[int, pd.DataFrame]) -> None:
    """See that two recipes were judged by the same images, labels and groups.

    Raises:
        StudyError: a replicate has others.
        DataError: see `joined`.
    """
    columns = ["id", "group", "label", folds.FOLD]
    if not joined(one)[columns].equals(joined(other)[columns]):
        raise StudyError(
            "Expected the same images, groups and labels in the replicates of all recipes, but "
            "they differ: the data or the division is not what it was"
        )


def group_gain(
    mine: folds.Measured,
    reference: folds.Measured,
    metric: str,
    direction: Direction,
    replicates: tuple[int, ...],
) -> GroupGain:
    """How much better a recipe is than another, group by group drawn anew.

    Args:
        mine: from `measured`.
        reference: of the other recipe, of the same images, draws and seed.
        metric: as it is monitored, such as "val/auc".
        direction: which way it is better.
        replicates: that both were measured on.

    Returns:
        Intervals without ends where the metric is undefined.
    """
    name = _NAMES.get(metric, metric.removeprefix("val/"))
    found = [one for one in folds.gaps(mine, reference) if one.metric == name]
    undefined = Interval(None, None, None, "undefined on these images")
    mean, pooled = (found[0].mean, found[0].pooled) if found else (undefined, undefined)
    return GroupGain(
        replicates,
        mine.rows,
        mine.n_groups,
        _turned(mean, direction),
        _turned(pooled, direction),
    )


def tabled(
    tables: Sequence[Mapping[int, pd.DataFrame]], one: int, other: int, replicates: Sequence[int]
) -> list[int]:
    """Those of the replicates whose predictions both recipes have."""
    return [index for index in replicates if index in tables[one] and index in tables[other]]


def gains(
    tables: Sequence[Mapping[int, pd.DataFrame]],
    pairs: Mapping[int, tuple[int, ...]],
    reference: int,
    metric: str,
    direction: Direction,
    *,
    draws: int,
    seed: int,
) -> dict[int, GroupGain]:
    """The gain of every recipe by group, where the predictions of all its pairs are there.

    On fewer replicates it would be the interval of another gain than the one it stands beside.

    Args:
        tables: of each recipe, replicate -> predictions table.
        pairs: recipe -> the replicates that its gain is of.
        reference: the recipe that the others are held against.
        metric: as it is monitored, such as "val/auc".
        direction: which way it is better.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        StudyError: predictions of different images in one replicate.
        DataError: a table is not valid.
    """
    known: dict[tuple[int, tuple[int, ...]], folds.Measured] = {}
    found = {}
    for place, indices in pairs.items():
        if not indices or tabled(tables, place, reference, indices) != list(indices):
            continue
        parts = {one: {i: tables[one][i] for i in indices} for one in (place, reference)}
        same_images(parts[place], parts[reference])
        for one, part in parts.items():
            if (one, indices) not in known:
                known[one, indices] = measured(part, draws=draws, seed=seed)
        found[place] = group_gain(
            known[place, indices], known[reference, indices], metric, direction, indices
        )
    return found


_NAMES = {"val/loss": "log_loss"}


def _turned(found: Interval, direction: Direction) -> Interval:
    sign = sign_of(direction)
    value = None if found.value is None else sign * found.value
    if found.low is None or found.high is None:
        return Interval(value, None, None, found.why)
    low, high = sorted((sign * found.low, sign * found.high))
    return Interval(value, low, high, found.why)
