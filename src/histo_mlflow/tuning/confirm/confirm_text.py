"""A confirmation as a table to read and as MLflow metrics."""

from __future__ import annotations

from collections.abc import Sequence

from histo_mlflow.evaluation.bootstrap import LEVEL
from histo_mlflow.evaluation.style import count
from histo_mlflow.tuning.confirm.confirm_report import Confirmation, Confirmed

_UNDEFINED = "undefined"


def render(found: Confirmation) -> str:
    """The values of the replicates, then optimism and gain, the winner, and notes."""
    rounds = count(len(found.confirmed[0].values), "replicate")
    level = f"{100 * LEVEL:.0f} %"
    recipes = [_name(one, found) for one in found.confirmed]
    replicates = [f"r{index}" for index in range(len(found.confirmed[0].values))]
    first = _aligned(
        [found.metric, "search", *replicates, "mean", "SD", f"{level} of the mean"],
        [
            [
                name,
                _number(one.candidate.value, missing="-"),
                *(_value(one, index) for index in range(len(replicates))),
                _number(one.spread.mean),
                _number(one.spread.sd),
                _ends(one.spread.low, one.spread.high),
            ]
            for name, one in zip(recipes, found.confirmed, strict=True)
        ],
    )
    second = _aligned(
        ["", "optimism", level, "gain", f"{level} replicates", f"{level} by group", "parameters",
         "work"],
        [[name, *_judged(one)] for name, one in zip(recipes, found.confirmed, strict=True)],
    )  # fmt: skip
    what = "optimism: search minus mean; gain: over the default, pair by pair; positive is better"
    winner = f"winner  {found.reason}\n        {found.verdict}"
    told = "\n".join(f"NOTE {note}" for note in found.notes)
    return "\n\n".join(
        [f"confirmed on {rounds}: fresh seeds, folds by group\n{first}", f"{second}\n{what}",
         winner, told]
    )  # fmt: skip


def mlflow_metrics(found: Confirmation) -> dict[int, dict[str, float]]:
    """Step -> metrics: of each trial at its number, of default, winner and search at 0.

    What is undefined has no metric.
    """
    by_step: dict[int, dict[str, float | None]] = {0: {}}
    for one in found.confirmed:
        number = one.candidate.number
        if number is not None:
            step = by_step.setdefault(number, {})
            step |= {f"confirm/{name}": value for name, value in _numbers(one).items()}
    default = _numbers(found.confirmed[found.reference])
    by_step[0] |= {f"confirm_default/{name}": value for name, value in default.items()}
    if found.winner is not None:
        number = found.winner.candidate.number
        of_winner = {"trial": None if number is None else float(number), **_numbers(found.winner)}
        by_step[0] |= {f"confirm_winner/{name}": value for name, value in of_winner.items()}
    search = found.optimism
    by_step[0] |= {
        "confirm_search/optimism": search.value,
        "confirm_search/optimism_low": search.low,
        "confirm_search/optimism_high": search.high,
    }
    return {
        step: {name: value for name, value in values.items() if value is not None}
        for step, values in sorted(by_step.items())
    }


def _numbers(one: Confirmed) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {
        "search": one.candidate.value,
        "mean": one.spread.mean,
        "mean_low": one.spread.low,
        "mean_high": one.spread.high,
        "sd": one.spread.sd,
        "replicates": float(one.spread.n),
        "optimism": one.optimism.value,
        "optimism_low": one.optimism.low,
        "optimism_high": one.optimism.high,
    }
    if one.gain is not None:
        numbers |= {
            "gain": one.gain.mean,
            "gain_low": one.gain.low,
            "gain_high": one.gain.high,
        }
    if one.by_group is not None:
        numbers |= {
            "gain_by_group_low": one.by_group.mean.low,
            "gain_by_group_high": one.by_group.mean.high,
            "pooled_gain": one.by_group.pooled.value,
            "pooled_gain_low": one.by_group.pooled.low,
            "pooled_gain_high": one.by_group.pooled.high,
        }
    return numbers


def _judged(one: Confirmed) -> list[str]:
    by_group = None if one.by_group is None else one.by_group.mean
    gained = ["-", "-", "-"]
    if one.gain is not None:
        gained = [
            _number(one.gain.mean, "+"),
            _ends(one.gain.low, one.gain.high, "+"),
            "-" if by_group is None else _ends(by_group.low, by_group.high, "+"),
        ]
    return [
        _number(one.optimism.value, "+", missing="-"),
        "-" if one.optimism.value is None else _ends(one.optimism.low, one.optimism.high, "+"),
        *gained,
        f"{one.cost[0]:,.0f}",
        f"{one.cost[1]:.3g}",
    ]


def _name(one: Confirmed, found: Confirmation) -> str:
    name = one.candidate.name
    if one.candidate.default and one.candidate.number is not None:
        name += " (default)"
    return f"{name} *" if one is found.winner else name


def _value(one: Confirmed, index: int) -> str:
    value, state = one.values[index], one.states[index]
    if value is not None:
        return f"{value:.4f}" if index in one.used else f"({value:.4f})"
    return "-" if state is None else state.replace("_", " ")


def _number(value: float | None, sign: str = "", *, missing: str = _UNDEFINED) -> str:
    return missing if value is None else f"{value:{sign}.4f}"


def _ends(low: float | None, high: float | None, sign: str = "") -> str:
    return _UNDEFINED if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in (head, *rows)
    )
