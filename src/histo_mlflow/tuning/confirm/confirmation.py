"""What a confirmation trains: the best recipes of a search and the default, each R times anew.

Replicate r has a seed that the search never used and group fold r of a division that it never used
either. All recipes get the same replicates, so that they can be compared in pairs, and every
development image is judged exactly once for each recipe. The test split stays sealed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from histo_mlflow.errors import StudyError
from histo_mlflow.jobs.development import Division
from histo_mlflow.randomness import derive
from histo_mlflow.recipe import Recipe, build
from histo_mlflow.tuning.confirm.confirm_plan import Candidate, Plan, Replicate
from histo_mlflow.tuning.confirm.optimism import Direction, is_known, sign_of
from histo_mlflow.tuning.shared import attributes

REPLICATES = 5
_SEEDS = 2**31  # short enough to be read and typed again


@dataclass(frozen=True)
class Slot:
    """One training: which candidate on which replicate, both by their place in the plan."""

    candidate: int
    replicate: int


def candidates(
    trials: Sequence[FrozenTrial],
    k: int,
    direction: Direction,
    overrides_of: Callable[[FrozenTrial], Mapping[str, Any]],
    *,
    base: Recipe,
) -> tuple[Candidate, ...]:
    """The k best complete trials, best first, and the base recipe.

    Args:
        trials: of the search, in any state; those without a finite value never count.
        k: how many; fewer where there are not so many different recipes.
        direction: which way the value is better. Of equal ones the lowest number comes first.
        overrides_of: a trial -> recipe fields.
        base: the recipe of the study. A trial whose recipe it is stands for it.

    Returns:
        Each recipe once: of trials with the same one the best counts.

    Raises:
        StudyError: k is below 1, or no trial is complete.
        RecipeError: the fields of a trial do not fit the base recipe.
    """
    if k < 1:
        raise StudyError(f"Expected at least 1 trial to confirm, got {k}.")
    complete = [
        (one.value, one)
        for one in trials
        if one.state == TrialState.COMPLETE and one.value is not None and is_known(one.value)
    ]
    if not complete:
        raise StudyError(
            f"none of {len(trials)} trials is complete, so there is nothing to confirm: let the "
            "study go on until one is"
        )
    sign = sign_of(direction)
    default, found = _told_apart(base), dict[str, Candidate]()
    for value, trial in sorted(complete, key=lambda pair: (-sign * pair[0], pair[1].number)):
        overrides = json.loads(json.dumps(dict(overrides_of(trial))))  # as a plan reads them back
        made = _told_apart(laid_over(base, overrides))
        if made in found:
            continue
        run_id = trial.user_attrs.get(attributes.RUN_ID)
        found[made] = Candidate(trial.number, overrides, value, run_id, default=made == default)
        if len(found) == k:
            break
    if default not in found:
        found[default] = Candidate(None, {}, None, None, default=True)
    return tuple(found.values())


def replicates(study_seed: int, n: int, *, used: Collection[int]) -> tuple[Replicate, ...]:
    """n rounds with a seed and a fold each.

    Args:
        study_seed: of the study; the same one gives the same replicates.
        n: how many, and so the number of folds; at least 2.
        used: seeds that the search trained with or divided by; none of them comes again.

    Raises:
        StudyError: n is below 2.
    """
    if n < 2:
        raise StudyError(
            f"Expected at least 2 replicates, got {n}: one training cannot tell how trainings "
            f"differ ({REPLICATES} are usual)"
        )
    taken = set(used)

    def fresh(*purpose: int | str) -> int:
        attempt = 0
        while (seed := derive(study_seed, "confirm", *purpose, attempt) % _SEEDS) in taken:
            attempt += 1
        taken.add(seed)
        return seed

    division = fresh("division")
    return tuple(
        Replicate(index, fresh("replicate", index), Division(n, index, division))
        for index in range(n)
    )


def slots(plan: Plan) -> tuple[Slot, ...]:
    """Every training once: replicate 0 of all candidates, then replicate 1, and so on.

    A study that is stopped half-way then has whole replicates, which can be compared in pairs.
    """
    return tuple(
        Slot(candidate, replicate)
        for replicate in range(len(plan.replicates))
        for candidate in range(len(plan.candidates))
    )


def laid_over(base: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The base recipe with the fields of a candidate.

    Raises:
        RecipeError: they do not fit.
    """
    return build(base.model_dump(mode="json"), overrides, where=base.name)


def recipe_of(base: Recipe, candidate: Candidate, replicate: Replicate) -> Recipe:
    """What is trained in one slot: the candidate's recipe with the seed of the replicate.

    Raises:
        RecipeError: the candidate does not fit the base recipe.
    """
    return laid_over(base, {**candidate.overrides, "seed": replicate.seed})


def _told_apart(recipe: Recipe) -> str:
    """Equal for recipes that train alike, whatever they are called."""
    flat = {key: value for key, value in recipe.flatten().items() if key != "recipe"}
    return json.dumps(flat, sort_keys=True)
