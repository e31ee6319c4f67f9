"""From the trainings of a confirmation to what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from histo_mlflow.errors import StudyError
from histo_mlflow.evaluation.bootstrap import REPLICATES
from histo_mlflow.tuning.confirm import _confirm_groups as groups
from histo_mlflow.tuning.confirm._confirm_words import Facts, notes, reason, verdict
from histo_mlflow.tuning.confirm.confirm_plan import Plan
from histo_mlflow.tuning.confirm.confirm_report import (
    Confirmation,
    Confirmed,
    Cost,
    Outcome,
    failures_of,
)
from histo_mlflow.tuning.confirm.optimism import (
    Choice,
    Direction,
    gain,
    is_known,
    one_standard_error,
    optimism,
    reaches,
    spread,
)

_BOUNDS = {"val/loss": (0.0, math.inf)}
"""What a metric can be; all others are shares."""


def conclude(
    plan: Plan,
    outcomes: Sequence[Outcome],
    *,
    metric: str,
    direction: Direction,
    sizes: Sequence[tuple[int, int]],
    costs: Sequence[Cost],
    search_images: int | None = None,
    group_kind: str = "group",
    draws: int = REPLICATES,
    seed: int = 0,
) -> Confirmation:
    """Judge what was trained, whole or stopped half-way.

    The candidates with the fewest trainings that ended without a value (mostly none) are compared,
    on the replicates that all of them have. The default is held against them and never chosen,
    unless a trial has its recipe.

    Args:
        plan: what was to be trained.
        outcomes: of the trainings that ended, in any order.
        metric: such as "val/auc".
        direction: which way it is better.
        sizes: images trained on and judged by, of each replicate.
        costs: of each candidate of the plan.
        search_images: that a trial of the search was trained on; None where that is not known.
        group_kind: what a group is, such as "lesion".
        draws: of the bootstrap by group.
        seed: of the draws.

    Returns:
        Without a winner where fewer than two replicates can be compared.

    Raises:
        StudyError: other sizes or costs than the plan has, an outcome that it does not have or has
            twice, or predictions of different images in one replicate.
        DataError: a predictions table is not valid.
    """
    _refuse_misfits(plan, outcomes, sizes, costs)
    overlap = float(np.mean([val for _, val in sizes]) / np.mean([train for train, _ in sizes]))
    ended = _Ended({(one.candidate, one.replicate): one for one in outcomes}, len(plan.replicates))
    compared, reference = _compared(plan, ended), plan.reference()
    common = tuple(
        index
        for index in range(len(plan.replicates))
        if all(ended.value(place, index) is not None for place in compared)
    )
    used = _used(plan, ended, compared, common)
    pairs = {
        place: tuple(i for i in indices if ended.value(reference, i) is not None)
        for place, indices in used.items()
        if place != reference
    }
    tables = [ended.tables(place) for place in range(len(plan.candidates))]
    by_group = groups.gains(tables, pairs, reference, metric, direction, draws=draws, seed=seed)
    confirmed = tuple(
        _confirmed(plan, place, ended, used[place], metric, direction, overlap, cost, by_group)
        for place, cost in enumerate(costs)
    )
    choice = _choice(confirmed, compared, common, direction)
    default, within = confirmed[reference], None
    if choice is not None and default.used == common and default.spread.mean is not None:
        within = reaches(default.spread.mean, choice.limit, direction)
    facts = _facts(confirmed, compared, common, reference, choice, within, direction)
    n_groups = max((one.groups for one in by_group.values()), default=None)
    lacking = {
        plan.candidates[place].name: (len(groups.tabled(tables, place, reference, of)), len(of))
        for place, of in pairs.items()
        if of and place not in by_group
    }
    trained = min(train for train, _ in sizes)
    return Confirmation(
        metric=metric,
        direction=direction,
        confirmed=confirmed,
        reference=reference,
        compared=compared,
        choice=choice,
        default_within=within,
        reason=reason(facts),
        verdict=verdict(facts),
        notes=notes(
            facts,
            group_kind=group_kind,
            groups=n_groups,
            lacking=lacking,
            predicted=any(tables),
            trained=trained,
            search_images=search_images,
        ),
        overlap=overlap,
    )


@dataclass(frozen=True, eq=False)
class _Ended:
    """The outcomes by place in the plan and replicate."""

    found: Mapping[tuple[int, int], Outcome]
    replicates: int

    def of(self, place: int) -> list[Outcome | None]:
        return [self.found.get((place, index)) for index in range(self.replicates)]

    def tables(self, place: int) -> dict[int, pd.DataFrame]:
        """Replicate -> predictions, where they could be had."""
        return {
            index: one.predictions
            for index, one in enumerate(self.of(place))
            if one is not None and one.predictions is not None
        }

    def value(self, place: int, index: int) -> float | None:
        one = self.found.get((place, index))
        return one.value if one is not None and is_known(one.value) else None

    def known(self, place: int) -> list[int]:
        return [i for i in range(self.replicates) if self.value(place, i) is not None]


def _compared(plan: Plan, ended: _Ended) -> tuple[int, ...]:
    """Places of the candidates of the search that failed least."""
    failures = {}
    for place, candidate in enumerate(plan.candidates):
        if candidate.number is not None:
            there = [one for one in ended.of(place) if one is not None]
            failures[place] = failures_of([o.value for o in there], [o.state for o in there])
    fewest = min(failures.values())
    return tuple(place for place, count in failures.items() if count == fewest)


def _used(
    plan: Plan, ended: _Ended, compared: tuple[int, ...], common: tuple[int, ...]
) -> dict[int, tuple[int, ...]]:
    """Place -> the replicates that its mean is of: the common ones where it has a chance to win.

    The default, too, is seen on the common ones, or its mean would be of harder or easier folds.
    """
    tied = {*compared, plan.reference()}
    return {
        place: tuple(i for i in ended.known(place) if i in common or place not in tied)
        for place in range(len(plan.candidates))
    }


def _choice(
    confirmed: Sequence[Confirmed],
    compared: tuple[int, ...],
    common: tuple[int, ...],
    direction: Direction,
) -> Choice | None:
    """The one-standard-error rule among the compared, in places of the plan."""
    if len(common) < 2:
        return None
    found = one_standard_error(
        [confirmed[place].spread for place in compared],
        [confirmed[place].cost for place in compared],
        direction,
    )
    within = tuple(compared[one] for one in found.within)
    return Choice(compared[found.best], compared[found.chosen], within, found.limit)


def _confirmed(
    plan: Plan,
    place: int,
    ended: _Ended,
    used: tuple[int, ...],
    metric: str,
    direction: Direction,
    overlap: float,
    cost: Cost,
    by_group: Mapping[int, groups.GroupGain],
) -> Confirmed:
    candidate, reference, found = plan.candidates[place], plan.reference(), ended.of(place)
    of_used = [ended.value(place, index) for index in used]
    mean = spread(of_used, overlap, _BOUNDS.get(metric, (0.0, 1.0)))
    base = [ended.value(reference, index) for index in used]
    return Confirmed(
        candidate=candidate,
        values=tuple(ended.value(place, index) for index in range(ended.replicates)),
        states=tuple(None if one is None else one.state for one in found),
        run_ids=tuple(None if one is None else one.run_id for one in found),
        used=used,
        spread=mean,
        optimism=optimism(candidate.value, mean, direction),
        gain=None if place == reference else gain(of_used, base, direction, overlap),
        by_group=by_group.get(place),
        cost=cost,
    )


def _facts(
    confirmed: Sequence[Confirmed],
    compared: tuple[int, ...],
    common: tuple[int, ...],
    reference: int,
    choice: Choice | None,
    within: bool | None,
    direction: Direction,
) -> Facts:
    return Facts(
        names=tuple(one.candidate.name for one in confirmed),
        spreads=tuple(one.spread for one in confirmed),
        gains=tuple(one.gain for one in confirmed),
        failures=tuple(one.failures for one in confirmed),
        compared=compared,
        common=common,
        replicates=len(confirmed[0].values),
        reference=reference,
        choice=choice,
        default_within=within,
        direction=direction,
    )


def _refuse_misfits(
    plan: Plan,
    outcomes: Sequence[Outcome],
    sizes: Sequence[tuple[int, int]],
    costs: Sequence[Cost],
) -> None:
    rounds, recipes = len(plan.replicates), len(plan.candidates)
    if len(sizes) != rounds or any(train < 1 or val < 1 for train, val in sizes):
        raise StudyError(
            f"Expected images to train on and to judge by for {rounds} replicates, got "
            f"{list(sizes)}."
        )
    if len(costs) != recipes:
        raise StudyError(f"Expected a cost for each of {recipes} recipes, got {len(costs)}.")
    seen = set()
    for one in outcomes:
        slot = (one.candidate, one.replicate)
        if slot in seen or not (0 <= slot[0] < recipes and 0 <= slot[1] < rounds):
            raise StudyError(
                f"Expected one outcome for each of {recipes} recipes and {rounds} replicates, got "
                f"recipe {slot[0]} on replicate {slot[1]}{' twice' if slot in seen else ''}."
            )
        seen.add(slot)
