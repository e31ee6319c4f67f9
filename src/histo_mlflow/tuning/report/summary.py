"""What came of a search, as JSON values and as a text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from histo_mlflow.evaluation.style import shorten
from histo_mlflow.tuning.report import trials_table
from histo_mlflow.tuning.report._axis import number
from histo_mlflow.tuning.report.trials_table import Direction
from histo_mlflow.tuning.shared import attributes

BEST_TRIALS = 5
MOST_CAUSES = 5
_VALUE_CHARACTERS = 18


def summary(
    name: str,
    trials: Sequence[FrozenTrial],
    *,
    metric: str,
    direction: Direction,
    axes: Sequence[str],
    limit: int | None = None,
    active_seconds: float | None = None,
) -> dict[str, Any]:
    """What came of a study, as JSON values.

    Args:
        name: of the study.
        trials: all of them, ended or not.
        metric: what a value is, such as "val/auc".
        direction: which way is better.
        axes: names, in the order of the study file.
        limit: how many trials there are to be; None: no limit.
        active_seconds: how long anybody was at work on it; None: not known.

    Returns:
        study, metric, direction, counts (state -> trials; slots beyond the limit are none), causes
        (why trials ended without a value, the most frequent first: state, cause and trials of
        each), limit, active_seconds, trial_seconds (training and validation, summed over trials),
        best (a trial, or None) and best_trials (at most five): number, value, best_epoch, epochs,
        seconds, run_id and params of each.
    """
    ranked = trials_table.in_order_of_value(trials, direction)
    best = [_entry(one, axes) for one in ranked[:BEST_TRIALS]]
    seconds = [float(one.user_attrs.get(attributes.SECONDS, 0.0)) for one in trials]
    return {
        "study": name,
        "metric": metric,
        "direction": direction,
        "counts": trials_table.counts(trials_table.with_a_place(trials, limit)),
        "causes": _causes(trials),
        "limit": limit,
        "active_seconds": active_seconds,
        "trial_seconds": sum(seconds),
        "best": best[0] if best else None,
        "best_trials": best,
    }


def summary_text(
    found: Mapping[str, Any], *, recipe: str | None = None, go_on: str | None = None
) -> str:
    """The best five trials as a table, how all ended and why, and what to do next.

    Args:
        found: from `summary`.
        recipe: where the best recipe lies; None: there is none.
        go_on: the command that goes on with the study; None: nothing is left to do.
    """
    blocks = []
    if found["best_trials"]:
        blocks.append(_table(found["metric"], found["best_trials"]))
    endings = {state: n for state in attributes.TRIAL_STATES if (n := found["counts"][state])}
    ends = ", ".join(_so_many(n, state) for state, n in endings.items())
    of = f" of {found['limit']}" if found["limit"] is not None else ""
    lines = [f"study {found['study']}: {sum(endings.values())}{of} trials have ended"]
    if ends:
        lines[0] += f" ({ends})"
    if found["active_seconds"] is not None:
        lines[0] += f" in {duration(found['active_seconds'])}"
    causes = found["causes"]
    lines += [f"{_so_many(o['trials'], o['state'])}: {o['cause']}" for o in causes[:MOST_CAUSES]]
    if others := sum(one["trials"] for one in causes[MOST_CAUSES:]):
        lines.append(f"{others} more for other causes: trials.parquet has the cause of each")
    best = found["best"]
    if best is None:
        lines.append("no trial is complete, so there is no best recipe")
    else:
        lines.append(f"best so far: trial {best['number']}, {found['metric']} {best['value']:.4f}")
    if recipe is not None:
        lines.append(f"recipe {recipe}  (train it: histo-mlflow train --dataset {recipe})")
    if go_on is not None:
        lines.append(f"go on with: {go_on}")
    return "\n\n".join([*blocks, "\n".join(lines)])


def params_text(params: Mapping[str, Any], axes: Sequence[str] | None = None) -> str:
    """lr=0.0012 batch_size=64 ..., in the order of `axes`; an inactive axis is left out."""
    names = [name for name in axes if name in params] if axes is not None else list(params)
    return " ".join(f"{name}={_shown(params[name])}" for name in names)


def duration(seconds: float) -> str:
    """Say "34 s", "12:05 min" or "3:07:45 h"."""
    whole = max(round(seconds), 0)
    minutes, rest = divmod(whole, 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def _entry(one: FrozenTrial, axes: Sequence[str]) -> dict[str, Any]:
    noted = one.user_attrs
    return {
        "number": one.number,
        "value": one.value,
        "best_epoch": noted.get(attributes.BEST_EPOCH),
        "epochs": noted.get(attributes.EPOCHS),
        "seconds": noted.get(attributes.SECONDS),
        "run_id": noted.get(attributes.RUN_ID),
        "params": {name: one.params.get(name) for name in axes},
    }


def _causes(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    known = ((trials_table.state_of(one), trials_table.cause_of(one)) for one in trials)
    found = Counter((state, cause) for state, cause in known if cause is not None)
    return [{"state": s, "cause": cause, "trials": n} for (s, cause), n in found.most_common()]


def _so_many(n: int, state: str) -> str:
    return f"{n} {state.replace('_', ' ')}"


def _table(metric: str, best: Sequence[Mapping[str, Any]]) -> str:
    rows = [["trial", metric, "best epoch", "run", "params"]]
    for one in best:
        active = {name: value for name, value in one["params"].items() if value is not None}
        epoch = "" if one["best_epoch"] is None else str(one["best_epoch"])
        rows.append(
            [
                str(one["number"]), f"{one['value']:.4f}", epoch, one["run_id"] or "",
                params_text(active),
            ]
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i < 3 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _shown(value: Any) -> str:
    text = number(value) if isinstance(value, float) else str(value)
    return shorten(text, _VALUE_CHARACTERS)


def told_counts(found: Mapping[str, int]) -> str:
    """Say "7 complete, 4 pruned", then other endings where there are any."""
    always = ("complete", "pruned")
    return ", ".join(
        f"{n} {state.replace('_', ' ')}"
        for state, n in found.items()
        if state in attributes.TRIAL_STATES and (n or state in always)
    )
