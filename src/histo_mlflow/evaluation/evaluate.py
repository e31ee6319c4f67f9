"""All that is said of a split: metrics with intervals, calibration, thresholds, slices.

From the predictions table alone. What is chosen (temperature, thresholds) is chosen on validation;
the split that is judged only reports it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import abstain, metrics, predictions, slices, thresholds
from histo_mlflow.evaluation.abstain import AbstainRule
from histo_mlflow.evaluation.bootstrap import LEVEL, REPLICATES, Draws, draws
from histo_mlflow.evaluation.calibration import (
    Temperature,
    at_temperature,
    brier,
    ece,
    fit_temperature,
)
from histo_mlflow.evaluation.measured import Measured, delong_of, measure
from histo_mlflow.evaluation.probabilities import Floats, probabilities
from histo_mlflow.evaluation.replicates import MOST_CLASSES
from histo_mlflow.evaluation.slices import SliceMetric
from histo_mlflow.evaluation.style import count

FORMAT = 1
FEW_GROUPS = 30


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a model is on a split, how sure that is, for whom, and what was chosen before.

    Attributes:
        split: that was judged.
        chosen_on: where temperature and thresholds were chosen.
        classes: in the order of the logits.
        rows: images in it.
        groups: in it.
        group_kind: what a group is, such as "lesion".
        metrics: with intervals; overall ones first.
        delong: the AUC of two classes with its interval in closed form, by group and naive; None
            for more classes.
        temperature: fitted on validation; None where there is no validation split.
        before: log loss, Brier score and ECE of the split as the model says.
        after: the same at the temperature.
        thresholds: `rule`, `class`, `value`, and sensitivity and specificity on both splits.
        abstain: when the model should say nothing; None where there is no validation split.
        slice_metric: what the slices are compared by.
        slices: see `slices.compare_slices`.
        notes: what could not be computed, and why.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """

    split: str
    chosen_on: str
    classes: tuple[str, ...]
    rows: int
    groups: int
    group_kind: str
    metrics: tuple[Measured, ...]
    delong: Measured | None
    temperature: Temperature | None
    before: Mapping[str, float]
    after: Mapping[str, float] | None
    thresholds: tuple[Mapping[str, Any], ...]
    abstain: AbstainRule | None
    slice_metric: SliceMetric
    slices: pd.DataFrame
    notes: tuple[str, ...]
    replicates: int
    seed: int

    def named(self, metric: str, label: str | None = None) -> Measured:
        """Return one of the metrics.

        Raises:
            DataError: there is none of that name.
        """
        for one in self.metrics:
            if (one.metric, one.label) == (metric, label):
                return one
        raise DataError(f"Expected a metric that was computed, got {metric!r} of {label!r}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is undefined is null."""
        fitted = None if self.temperature is None else asdict(self.temperature)
        return {
            "format": FORMAT,
            "split": self.split,
            "chosen_on": self.chosen_on,
            "classes": list(self.classes),
            "rows": self.rows,
            "groups": self.groups,
            "group_kind": self.group_kind,
            "level": LEVEL,
            "replicates": self.replicates,
            "seed": self.seed,
            "metrics": [one.to_dict() for one in self.metrics],
            "delong": None if self.delong is None else self.delong.to_dict(),
            "calibration": {
                "temperature": fitted,
                "before": dict(self.before),
                "after": None if self.after is None else dict(self.after),
            },
            "thresholds": [dict(one) for one in self.thresholds],
            "abstain": None if self.abstain is None else self.abstain.to_dict(),
            "slice_metric": self.slice_metric,
            "slices": self.slices.to_dict(orient="records"),
            "notes": list(self.notes),
        }


def evaluate(
    table: pd.DataFrame,
    *,
    split: str = "test",
    chosen_on: str = "val",
    group_kind: str = "group",
    miss_cost: float = thresholds.MISS_COST,
    slice_metric: SliceMetric = "accuracy",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Evaluation:
    """Judge one split of a predictions table.

    Args:
        table: of a run, with the rows of `split` and of `chosen_on`.
        split: what is judged.
        chosen_on: where temperature and thresholds are chosen; without rows none are.
        group_kind: what a group is.
        miss_cost: how many false alarms one miss weighs.
        slice_metric: what slices are compared by.
        replicates: draws of the bootstrap.
        seed: of the draws.

    Raises:
        DataError: no row of the split, or a value out of range.
    """
    rows = predictions.of_split(table, split)
    notes: list[str] = []
    by_group = draws(rows["group"], len(rows), replicates=replicates, seed=seed)
    if by_group.n_groups < FEW_GROUPS:
        notes.append(
            f"only {count(by_group.n_groups, group_kind)}: intervals by group are rough below "
            f"{FEW_GROUPS}"
        )
    measured = measure(rows, by_group, notes)
    val = table[table["split"] == chosen_on].reset_index(drop=True)
    fitted = None if val.empty else _temperature(val, notes)
    if val.empty:
        notes.append(
            f"no rows of the split {chosen_on!r}: no temperature, no thresholds, no abstaining"
        )
    if split == chosen_on:
        notes.append(
            f"temperature and thresholds were chosen on the rows that are judged ({split}): what "
            "they gain here flatters"
        )
    value = 1.0 if fitted is None else fitted.value
    cuts = [] if val.empty else _thresholds(rows, val, value, miss_cost, notes)
    return Evaluation(
        split=split,
        chosen_on=chosen_on,
        classes=predictions.classes_of(rows),
        rows=len(rows),
        groups=by_group.n_groups,
        group_kind=group_kind,
        metrics=tuple(measured),
        delong=delong_of(rows),
        temperature=fitted,
        before=_calibration(rows, 1.0),
        after=None if fitted is None else _calibration(rows, value),
        thresholds=tuple(cuts),
        abstain=None if val.empty else _abstain(rows, val, value),
        slice_metric=slice_metric,
        slices=_slices(rows, by_group, slice_metric, notes),
        notes=tuple(notes),
        replicates=replicates,
        seed=seed,
    )


def _temperature(val: pd.DataFrame, notes: list[str]) -> Temperature:
    found = fit_temperature(
        predictions.targets_of(val), predictions.logits_of(val), predictions.output_of(val)
    )
    if found.at_limit:
        notes.append(
            f"the {found.rows:,} validation rows ask for no finite temperature (as when all of "
            "them are right): 1 is kept"
        )
    return found


def _calibration(rows: pd.DataFrame, temperature: float) -> dict[str, float]:
    truth, output = predictions.targets_of(rows), predictions.output_of(rows)
    logits = at_temperature(predictions.logits_of(rows), temperature)
    probs = probabilities(logits, output)
    return {
        "log_loss": metrics.log_loss(truth, logits, output),
        "brier": brier(truth, probs),
        "ece": ece(truth, probs),
    }


def _calibrated(rows: pd.DataFrame, temperature: float) -> Floats:
    """Probabilities of all classes at a temperature, (n, K)."""
    logits = at_temperature(predictions.logits_of(rows), temperature)
    return probabilities(logits, predictions.output_of(rows))


def _abstain(rows: pd.DataFrame, val: pd.DataFrame, temperature: float) -> AbstainRule:
    judged, chosen = (_calibrated(part, temperature) for part in (rows, val))
    below = abstain.choose(chosen.max(axis=1))
    return AbstainRule(
        below,
        abstain.kept(predictions.targets_of(val), chosen, below),
        abstain.kept(predictions.targets_of(rows), judged, below),
    )


def _thresholds(
    rows: pd.DataFrame,
    val: pd.DataFrame,
    temperature: float,
    miss_cost: float,
    notes: list[str],
) -> list[dict[str, Any]]:
    """Cuts of the calibrated probability of each class against the rest (class 1 of two)."""
    classes = predictions.classes_of(rows)
    judged, chosen = (_calibrated(part, temperature) for part in (rows, val))
    truth, seen = predictions.targets_of(rows), predictions.targets_of(val)
    found = []
    if len(classes) > MOST_CLASSES:
        notes.append(f"{len(classes):,} classes: no thresholds beyond {MOST_CLASSES}")
        return []
    for c in [1] if len(classes) == 2 else range(len(classes)):
        cuts = thresholds.choose(seen == c, chosen[:, c], miss_cost=miss_cost)
        if not cuts:
            notes.append(f"no thresholds for {classes[c]}: validation has none of it, or only it")
        for cut in cuts:
            sensitivity, specificity = thresholds.at(truth == c, judged[:, c], cut.value)
            found.append(
                {
                    "rule": cut.rule,
                    "class": classes[c],
                    "value": cut.value,
                    "validation": {
                        "sensitivity": cut.sensitivity,
                        "specificity": cut.specificity,
                    },
                    "test": {"sensitivity": sensitivity, "specificity": specificity},
                }
            )
    return found


def _slices(
    rows: pd.DataFrame, by_group: Draws, metric: SliceMetric, notes: list[str]
) -> pd.DataFrame:
    known = predictions.attributes_of(rows)
    if "group" in known:
        known = known.rename(columns={"group": "group (given)"})
    known["group"] = rows["group"]
    columns: dict[str, Sequence[str]] = {}
    for name in known:
        values = slices.sliced(known[name])
        n = values.nunique()
        if n > slices.MOST_VALUES and name != "group":
            notes.append(f"no slices by {name}: {n:,} different values")
        elif n == 1 and len(set(known[name].dropna().tolist())) > 1:
            notes.append(f"no slices by {name}: nearly all values are equal")
        elif 1 < n <= slices.MOST_VALUES:
            columns[str(name)] = values.tolist()
    truth = predictions.targets_of(rows)
    quality = slices.quality(
        metric, truth, predictions.logits_of(rows), predictions.output_of(rows)
    )
    better = slices.BETTER[metric]
    return slices.compare_slices(quality, columns, by_group, better=better)
