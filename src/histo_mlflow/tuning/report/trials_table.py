"""What became of a study's trials: a row a trial, the best of them, and the best so far.

States are those of `attributes.TRIAL_STATES`, and `running` and `waiting` of trials that have not
ended. Only a complete trial has a value.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from histo_mlflow import files
from histo_mlflow.tuning.shared import attributes

Direction = Literal["maximize", "minimize"]
OPEN_STATES = ("running", "waiting")
_STATES = {
    OptunaState.COMPLETE: "complete",
    OptunaState.PRUNED: "pruned",
    OptunaState.FAIL: "failed",
    OptunaState.RUNNING: "running",
    OptunaState.WAITING: "waiting",
}
_COLUMNS = {
    "number": "int64",
    "state": "string",
    "value": "float64",
    "last": "float64",
    "best_epoch": "Int64",
    "epochs": "Int64",
    "seconds": "float64",
    "started": "datetime64[us, UTC]",
    "ended": "datetime64[us, UTC]",
    "takes": "Int64",
    "lives_lost": "Int64",
    "run_id": "string",
    "cause": "string",
}


def state_of(trial: FrozenTrial) -> str:
    """The state by name; Optuna's PRUNED is told apart by what the worker noted."""
    if trial.state is OptunaState.PRUNED:
        return str(trial.user_attrs.get(attributes.STATE, "pruned"))
    return _STATES[trial.state]


def ended(trial: FrozenTrial) -> bool:
    """Whether nothing more will happen to it."""
    return trial.state.is_finished()


def counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Trials in each state; every state is there."""
    found = Counter(map(state_of, trials))
    return {state: found[state] for state in (*attributes.TRIAL_STATES, *OPEN_STATES)}


def with_a_place(trials: Sequence[FrozenTrial], limit: int | None) -> list[FrozenTrial]:
    """All but the slots beyond the budget, which nobody takes."""
    return [
        one
        for one in trials
        if limit is None or one.number < limit or one.state is not OptunaState.WAITING
    ]


def cause_of(trial: FrozenTrial) -> str | None:
    """Why it ended without a value; None of a trial that has one, was pruned, or has not ended."""
    if not ended(trial) or value_of(trial) is not None:
        return None
    found: str | None = trial.user_attrs.get(attributes.CAUSE)
    return found or None


def value_of(trial: FrozenTrial) -> float | None:
    """The value of a complete trial; None of any other, and for NaN or infinity."""
    if trial.state is not OptunaState.COMPLETE or trial.value is None:
        return None
    return trial.value if math.isfinite(trial.value) else None


def last_of(trial: FrozenTrial) -> float | None:
    """What it reported last; None before the first report."""
    reports = trial.intermediate_values
    return reports[max(reports)] if reports else None


def best(trials: Sequence[FrozenTrial], direction: Direction) -> FrozenTrial | None:
    """The complete trial of best value; the one of lowest number on a tie; NaN never."""
    ranked = in_order_of_value(trials, direction)
    return ranked[0] if ranked else None


def in_order_of_value(trials: Sequence[FrozenTrial], direction: Direction) -> list[FrozenTrial]:
    """Complete trials, best first; ties in order of number; without those of NaN or infinity."""
    sign = -1.0 if direction == "maximize" else 1.0
    known = [
        (sign * value, one.number, one) for one in trials if (value := value_of(one)) is not None
    ]
    return [one for _, _, one in sorted(known, key=lambda entry: entry[:2])]


def in_order_of_ending(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Ended trials as they ended; those of one moment in order of number."""
    never = datetime.max.replace(tzinfo=UTC)
    return sorted(filter(ended, trials), key=lambda one: (_ended_at(one) or never, one.number))


def best_so_far(trials: Sequence[FrozenTrial], direction: Direction) -> list[tuple[int, float]]:
    """(n, best value of the first n trials to end), for each n at which it became better."""
    sign = -1.0 if direction == "maximize" else 1.0
    found: list[tuple[int, float]] = []
    for n, one in enumerate(in_order_of_ending(trials), start=1):
        value = value_of(one)
        if value is not None and (not found or sign * value < sign * found[-1][1]):
            found.append((n, value))
    return found


def trials_table(
    trials: Sequence[FrozenTrial], *, metric: str, axes: Sequence[str]
) -> pd.DataFrame:
    """One row a trial in order of number; types of columns do not depend on how many there are.

    Columns: number, state, value (of a complete trial), last (reported), best_epoch, epochs,
    seconds (training and validation, all lives), started and ended (UTC), takes, lives_lost,
    run_id (of its MLflow run), cause, then one for each axis, missing where it was not active. The
    type of an axis is that of its distribution; one that no trial has had yet is a column of text.
    The metric's name is in `attrs["metric"]`, which Parquet keeps.

    Args:
        trials: of one study, ended or not.
        metric: what value and last are, such as "val/auc".
        axes: names in the order of the columns.
    """
    ordered = sorted(trials, key=lambda one: one.number)
    rows = [_row(one) for one in ordered]
    table = pd.DataFrame(
        {name: _column([row[name] for row in rows], kind) for name, kind in _COLUMNS.items()}
    )
    for axis in axes:
        table[_free(axis)] = _axis_column(axis, ordered)
    table.attrs["metric"] = metric
    return table


def save(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, whole or not at all.

    Raises:
        DiskError: it cannot be written.
    """
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    files.write_bytes(path, buffer.getbuffer())


def _row(one: FrozenTrial) -> dict[str, Any]:
    noted: Mapping[str, Any] = one.user_attrs
    return {
        "number": one.number,
        "state": state_of(one),
        "value": value_of(one),
        "last": last_of(one),
        "best_epoch": noted.get(attributes.BEST_EPOCH),
        "epochs": noted.get(attributes.EPOCHS),
        "seconds": noted.get(attributes.SECONDS),
        "started": _started_at(one),
        "ended": _ended_at(one) if ended(one) else None,
        "takes": noted.get(attributes.TAKES, 0),
        "lives_lost": noted.get(attributes.LIVES_LOST, 0),
        "run_id": noted.get(attributes.RUN_ID),
        "cause": noted.get(attributes.CAUSE),
    }


def _started_at(one: FrozenTrial) -> datetime | None:
    spans = _spans(one)
    return datetime.fromtimestamp(spans[0][0], UTC) if spans else _utc(one.datetime_start)


def _ended_at(one: FrozenTrial) -> datetime | None:
    # Spans are in UTC; Optuna's own times are in the local time of whoever wrote them.
    spans = _spans(one)
    return datetime.fromtimestamp(spans[-1][1], UTC) if spans else _utc(one.datetime_complete)


def _spans(one: FrozenTrial) -> list[tuple[float, float]]:
    return [(begin, end) for begin, end in json.loads(one.user_attrs.get(attributes.SPANS, "[]"))]


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC)


def _free(axis: str) -> str:
    return f"param_{axis}" if axis in _COLUMNS else axis


def _column(values: list[Any], kind: str) -> pd.Series[Any]:
    return pd.Series(values, dtype=kind)


def _axis_column(axis: str, trials: Sequence[FrozenTrial]) -> pd.Series[Any]:
    values = [one.params.get(axis) for one in trials]
    drawn_from = next(
        (one.distributions[axis] for one in trials if axis in one.distributions), None
    )
    kind = _kind(drawn_from)
    if kind == "string":
        values = [None if axis not in one.params else str(one.params[axis]) for one in trials]
    return _column(values, kind)


def _kind(drawn_from: BaseDistribution | None) -> str:
    if isinstance(drawn_from, FloatDistribution):
        return "float64"
    if isinstance(drawn_from, IntDistribution):
        return "Int64"
    if isinstance(drawn_from, CategoricalDistribution):
        kinds = {type(choice) for choice in drawn_from.choices}
        for plain, name in (({bool}, "boolean"), ({int}, "Int64"), ({int, float}, "float64")):
            if kinds <= plain:
                return name
    return "string"
