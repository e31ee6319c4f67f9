"""Two models on the images that both held out, as they would be served."""

from __future__ import annotations

import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.compare import LOWER_IS_BETTER, Comparison, paired
from histo_mlflow.jobs._promotion_evidence import Side
from histo_mlflow.jobs.compare import Split
from histo_mlflow.promotion.evidence import Gain


def compare(
    champion: Side, challenger: Side, *, metric: str, split: Split, replicates: int, seed: int = 0
) -> tuple[Gain, Comparison | None]:
    """Hold the challenger against the champion on the images that both have in a split.

    The predictions are compared as they are served: logits divided by each model's temperature.

    Args:
        champion: the baseline.
        challenger: held against it.
        metric: that decides.
        split: whose images.
        replicates: draws of the bootstrap.
        seed: of the draws.

    Returns:
        The gain in the metric, and all metrics; None where nothing can be compared.
    """
    sides = {_name(champion, challenger): champion, _name(challenger, champion): challenger}
    for side in (champion, challenger):
        if side.table is None:
            why = side.facts.results_problem
            return Gain(metric, problem=f"{side.facts.name} has no predictions: {why}"), None
    tables = {name: side.table for name, side in sides.items() if side.table is not None}
    try:
        found = paired(tables, split=split, replicates=replicates, seed=seed)
        first, second = found.named(metric)
    except DataError as error:
        return Gain(metric, problem=str(error)), None
    sign = -1 if metric in LOWER_IS_BETTER else 1
    ends = [
        sign * end
        for end in (second.difference_low, second.difference_high)
        if end is not None
    ]  # fmt: skip
    seen = {name: _seen(side, list(tables.values()), split) for name, side in sides.items()}
    digests = {
        side.record.tags.get("histo.data.digest") for side in sides.values() if side.record
    }  # fmt: skip
    gain = Gain(
        metric=metric,
        better=second.better,
        champion=first.value,
        challenger=second.value,
        gain=None if second.difference is None else sign * second.difference,
        low=min(ends) if len(ends) == 2 else None,
        high=max(ends) if len(ends) == 2 else None,
        why=second.why,
        split=split,
        rows=found.rows,
        groups=found.groups,
        left_out=found.left_out,
        seen=seen,
        same_data=None if None in digests else len(digests) == 1,
    )
    return gain, found


def _name(one: Side, other: Side) -> str:
    facts = one.facts
    if facts.name != other.facts.name:
        return facts.name
    return f"{facts.name} ({facts.model_id[:8]})"


def _seen(side: Side, tables: list[pd.DataFrame], split: Split) -> int | None:
    """How many of the compared images have their group in the run's training; None: not known."""
    if side.facts.folds is not None:
        return 0  # each image was predicted by the fold that did not see its group
    record = side.record
    if record is None or record.splits is None:
        return None
    common = set.intersection(*(set(t["id"][t["split"] == split]) for t in tables))
    theirs = record.splits.table
    train = set(theirs["group"][theirs["split"] == "train"])
    return int((theirs["id"].isin(common) & theirs["group"].isin(train)).sum())
