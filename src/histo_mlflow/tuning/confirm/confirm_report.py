"""What came of a confirmation: how much the search flattered, which recipe wins, and how sure.

All differences are signed so that positive is good to read: an optimism above 0 flattered, a gain
above 0 is better, whichever way the metric is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from histo_mlflow.evaluation.bootstrap import LEVEL
from histo_mlflow.tuning.confirm._confirm_groups import GroupGain
from histo_mlflow.tuning.confirm.confirm_plan import Candidate
from histo_mlflow.tuning.confirm.optimism import Choice, Direction, Optimism, Spread, is_known
from histo_mlflow.tuning.shared.attributes import TrialState

Cost = tuple[float, float]
"""Parameters of the model; epochs x images x px^2 of a training. Less is simpler."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """How one training of a confirmation ended.

    Attributes:
        candidate: its place in the plan.
        replicate: index of it.
        state: how it ended.
        value: the metric at the best epoch; None where it has none.
        run_id: of its run.
        predictions: table of the images that judged, split "val"; None where there is none.
    """

    candidate: int
    replicate: int
    state: TrialState
    value: float | None
    run_id: str | None = None
    predictions: pd.DataFrame | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Confirmed:
    """One recipe after its replicates.

    Attributes:
        candidate: the recipe.
        values: by replicate; None where there is none.
        states: how each training ended; None where it was not trained to an end.
        run_ids: of each training.
        used: the replicates that its mean is of.
        spread: its mean, with the interval over replicates.
        optimism: search value minus mean.
        gain: over the default on replicates that both have; None for the default.
        by_group: the same gain with intervals by group; None without the predictions of all pairs.
        cost: see `Cost`.
    """

    candidate: Candidate
    values: tuple[float | None, ...]
    states: tuple[TrialState | None, ...]
    run_ids: tuple[str | None, ...]
    used: tuple[int, ...]
    spread: Spread
    optimism: Optimism
    gain: Spread | None
    by_group: GroupGain | None
    cost: Cost

    @property
    def failures(self) -> int:
        """Trainings that ended without a value."""
        return failures_of(self.values, self.states)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is undefined is null."""
        found = {
            "name": self.candidate.name,
            "trial": self.candidate.number,
            "run_id": self.candidate.run_id,
            "default": self.candidate.default,
            "overrides": dict(self.candidate.overrides),
            "search_value": self.candidate.value,
            "values": list(self.values),
            "states": list(self.states),
            "run_ids": list(self.run_ids),
            "used": list(self.used),
            "confirmed": asdict(self.spread),
            "optimism": asdict(self.optimism),
            "gain": None if self.gain is None else asdict(self.gain),
            "gain_by_group": None if self.by_group is None else asdict(self.by_group),
            "cost": {"parameters": self.cost[0], "work": self.cost[1]},
        }
        return found


@dataclass(frozen=True, eq=False)
class Confirmation:
    """What a confirmation found.

    Attributes:
        metric: such as "val/auc".
        direction: which way it is better.
        confirmed: every recipe, in the order of the plan.
        reference: the default's place among them.
        compared: places of the candidates among which the winner was sought.
        choice: of the one-standard-error rule, in places among `confirmed`; None: no winner.
        default_within: whether the default is within one standard error of the best; None where
            that is not known.
        reason: why the winner is the winner, or why there is none.
        verdict: the winner against the default, in words.
        notes: what the numbers hold and what they do not.
        overlap: n_val / n_train of the replicates.
    """

    metric: str
    direction: Direction
    confirmed: tuple[Confirmed, ...]
    reference: int
    compared: tuple[int, ...]
    choice: Choice | None
    default_within: bool | None
    reason: str
    verdict: str
    notes: tuple[str, ...]
    overlap: float

    @property
    def winner(self) -> Confirmed | None:
        """The recipe to train; None where there is none."""
        return None if self.choice is None else self.confirmed[self.choice.chosen]

    @property
    def optimism(self) -> Optimism:
        """Of the search: of its best trial."""
        return self.confirmed[0].optimism

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is undefined is null."""
        return {
            "format": 1,
            "metric": self.metric,
            "direction": self.direction,
            "level": LEVEL,
            "replicates": len(self.confirmed[0].values),
            "overlap": self.overlap,
            "optimism": asdict(self.optimism),
            "winner": None if self.winner is None else self.winner.to_dict(),
            "choice": None if self.choice is None else _named(self.choice, self.confirmed),
            "default_within": self.default_within,
            "reason": self.reason,
            "verdict": self.verdict,
            "candidates": [one.to_dict() for one in self.confirmed],
            "notes": list(self.notes),
        }


def failures_of(values: Sequence[float | None], states: Sequence[TrialState | None]) -> int:
    """Count the trainings that ended, and without a value."""
    return sum(
        state is not None and not is_known(value)
        for value, state in zip(values, states, strict=True)
    )


def _named(choice: Choice, confirmed: Sequence[Confirmed]) -> dict[str, Any]:
    return {
        "best": confirmed[choice.best].candidate.name,
        "chosen": confirmed[choice.chosen].candidate.name,
        "within_one_standard_error": [confirmed[one].candidate.name for one in choice.within],
        "limit": choice.limit,
        "standard_error": confirmed[choice.best].spread.error,
    }
