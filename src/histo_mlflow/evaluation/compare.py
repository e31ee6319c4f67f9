"""Is one model better than another? Every metric's difference on the same images.

The draws of the bootstrap are the same for all models, so what is hard or easy about a draw of
slides or patients cancels in the difference: its interval is much shorter than two intervals side
by side suggest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation._aligned import aligned, common_ids
from histo_mlflow.evaluation.bootstrap import (
    LEVEL,
    REPLICATES,
    Draws,
    Interval,
    draws,
    interval,
    unless_constant,
)
from histo_mlflow.evaluation.measured import ORDER, sample_of, split_name
from histo_mlflow.evaluation.paired_auc import PairedAuc, paired_aucs
from histo_mlflow.evaluation.probabilities import Floats
from histo_mlflow.evaluation.replicates import MOST_CLASSES

Verdict = Literal["better", "worse", "no clear difference", "undefined"]
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})
FEW_GROUPS = 30
_NOTHING = 1e-12  # what rounding leaves of a difference of 0


@dataclass(frozen=True)
class Difference:
    """A metric of one model, and its difference to the first model's.

    Attributes:
        name: of the model.
        metric: such as "auc".
        label: the class that it is of; None for all.
        value: None where it is undefined.
        low: lower end of the value's interval by group; None where there is none.
        high: its upper end.
        difference: value minus the first model's; None for the first model, or undefined.
        difference_low: lower end of its interval by group; None where there is none.
        difference_high: its upper end.
        naive_low: as if every image were a group of its own.
        naive_high: its upper end.
        verdict: whether the interval by group lies on one side of 0; None for the first model.
        why: why there is no value or no interval; empty where both are there.
    """

    name: str
    metric: str
    label: str | None
    value: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    naive_low: float | None
    naive_high: float | None
    verdict: Verdict | None
    why: str

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which way the metric is better."""
        return "lower" if self.metric in LOWER_IS_BETTER else "higher"

    def to_dict(self) -> dict[str, Any]:
        """JSON values, `label` as "class"."""
        found = asdict(self)
        head = {"name": found.pop("name"), "metric": found.pop("metric")}
        return {**head, "class": found.pop("label"), "better": self.better, **found}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models held against the first of them.

    Attributes:
        split: whose rows were compared.
        names: of the models; the first is the baseline.
        rows: images that all have.
        groups: among them.
        left_out: how many images of each model's split the others lack.
        differences: model by model within each metric; overall metrics first.
        delong: of each model but the first; empty for more than two classes.
        notes: what to keep in mind, in plain words.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """

    split: str
    names: tuple[str, ...]
    rows: int
    groups: int
    left_out: Mapping[str, int]
    differences: tuple[Difference, ...]
    delong: tuple[PairedAuc, ...]
    notes: tuple[str, ...]
    replicates: int
    seed: int

    def named(self, metric: str, label: str | None = None) -> tuple[Difference, ...]:
        """Return one metric of every model, in their order.

        Raises:
            DataError: there is none of that name.
        """
        found = [one for one in self.differences if (one.metric, one.label) == (metric, label)]
        if not found:
            raise DataError(f"Expected a metric that was computed, got {metric!r} of {label!r}.")
        return tuple(found)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a model and metric."""
        return pd.DataFrame([one.to_dict() for one in self.differences])

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is undefined is null."""
        return {
            "format": 1,
            "split": self.split,
            "names": list(self.names),
            "baseline": self.names[0],
            "rows": self.rows,
            "groups": self.groups,
            "left_out": dict(self.left_out),
            "level": LEVEL,
            "replicates": self.replicates,
            "seed": self.seed,
            "metrics": [one.to_dict() for one in self.differences],
            "delong": [asdict(one) for one in self.delong],
            "notes": list(self.notes),
        }


def paired(
    tables: Mapping[str, pd.DataFrame],
    *,
    split: str = "test",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Comparison:
    """Hold the predictions of several models against those of the first, on the images all have.

    Args:
        tables: name -> predictions table, in the order in which they are told; the kind of output
            may differ.
        split: whose rows are compared. An image counts if it lies in this split in every table.
        replicates: draws of the bootstrap.
        seed: of the draws.

    Raises:
        DataError: fewer than two tables, one that is not valid or has no row of the split, no image
            that all have, other classes, or another label or group of the same image.
    """
    if len(tables) < 2:
        raise DataError(
            f"Expected two tables of predictions or more to compare, got {len(tables)}."
        )
    rows = {
        name: predictions.of_split(predictions.validated(table), split)
        for name, table in tables.items()
    }
    ids = common_ids(rows)
    left_out = {name: len(table) - len(ids) for name, table in rows.items()}
    if not ids:
        counts = ", ".join(f"{name} {len(table):,}" for name, table in rows.items())
        raise DataError(
            f"Expected images that all have in the split {split!r}, got none: {counts}."
        )
    same = aligned(rows, ids)
    groups = next(iter(same.values()))["group"]
    by_group = draws(groups, len(ids), replicates=replicates, seed=seed)
    by_image = draws(None, len(ids), replicates=replicates, seed=seed)
    differences = _differences(same, by_group, by_image)
    n_classes = len(predictions.classes_of(next(iter(same.values()))))
    return Comparison(
        split=split,
        names=tuple(tables),
        rows=len(ids),
        groups=by_group.n_groups,
        left_out=left_out,
        differences=differences,
        delong=paired_aucs(same),
        notes=tuple(_notes(split, left_out, by_group.n_groups, n_classes, differences)),
        replicates=replicates,
        seed=seed,
    )


def _differences(
    tables: Mapping[str, pd.DataFrame], by_group: Draws, by_image: Draws
) -> tuple[Difference, ...]:
    base, *others = tables
    classes = predictions.classes_of(tables[base])
    samples = {name: sample_of(table, by_group) for name, table in tables.items()}
    whole = {name: one.whole() for name, one in samples.items()}
    # of the labels alone, so that it is the same for all
    effective = samples[base].effective_groups()
    grouped, single = _replicated(tables, by_group), _replicated(tables, by_image)
    found = []
    for key, first in whole[base].items():
        metric, label = split_name(key, classes)
        own = interval(first, grouped[base][key], by_group.n_groups, effective=effective.get(key))
        found.append(
            Difference(
                base, metric, label, own.value, own.low, own.high,
                None, None, None, None, None, None, own.why,
            )
        )  # fmt: skip
        for name in others:
            value = whole[name][key]
            own = interval(
                value, grouped[name][key], by_group.n_groups, effective=effective.get(key)
            )
            gap = None if value is None or first is None else value - first
            inner = interval(
                gap,
                grouped[name][key] - grouped[base][key],
                by_group.n_groups,
                effective=effective.get(key),
            )
            outer = interval(gap, single[name][key] - single[base][key], by_image.n_groups)
            if gap:  # models that say the same differ by nothing, and that is sure
                inner = unless_constant(inner)
            found.append(
                Difference(
                    name, metric, label, own.value, own.low, own.high,
                    gap, inner.low, inner.high, outer.low, outer.high,
                    _verdict(metric, inner), inner.why,
                )
            )  # fmt: skip
    return tuple(sorted(found, key=lambda one: (one.label is not None, ORDER.index(one.metric))))


def _replicated(
    tables: Mapping[str, pd.DataFrame], drawn_from: Draws
) -> dict[str, dict[str, Floats]]:
    """Return each metric of each draw, (replicates,), of every table; the draws are the same."""
    samples = {name: sample_of(table, drawn_from) for name, table in tables.items()}
    parts: dict[str, list[dict[str, Floats]]] = {name: [] for name in tables}
    for counts in drawn_from.chunks():
        for name, one in samples.items():
            parts[name].append(one.of(counts))
    return {
        name: {key: np.concatenate([part[key] for part in some]) for key in some[0]}
        for name, some in parts.items()
    }


def _verdict(metric: str, difference: Interval) -> Verdict:
    if difference.low is None or difference.high is None:
        return "undefined"
    sign = -1 if metric in LOWER_IS_BETTER else 1
    low, high = sorted((sign * difference.low, sign * difference.high))
    if low > _NOTHING:
        return "better"
    return "worse" if high < -_NOTHING else "no clear difference"


def _notes(
    split: str,
    left_out: Mapping[str, int],
    groups: int,
    n_classes: int,
    found: Sequence[Difference],
) -> list[str]:
    notes = []
    if any(left_out.values()):
        told = ", ".join(f"{n:,} of {name}" for name, n in left_out.items())
        notes.append(f"images of the split {split!r} that not all have are left out: {told}")
    if n_classes > MOST_CLASSES:
        notes.append(
            f"{n_classes:,} classes: beyond {MOST_CLASSES} only accuracy, log loss, Brier score "
            "and ECE are compared"
        )
    if groups < FEW_GROUPS:
        notes.append(f"only {groups} groups: intervals by group are rough below {FEW_GROUPS}")
    undefined = [one for one in found if one.value is None]
    for one in undefined:
        of_class = f" of {one.label}" if one.label else ""
        notes.append(f"{one.metric}{of_class} is undefined on these images for {one.name}")
    told_apart = sum(one.verdict in ("better", "worse", "no clear difference") for one in found)
    if told_apart > 1:
        notes.append(
            f"each interval holds by itself: of {told_apart:,} differences about "
            f"{max(1, round((1 - LEVEL) * told_apart)):,} would seem clear by chance"
        )
    return notes
