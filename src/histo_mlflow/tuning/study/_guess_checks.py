"""Whether first guesses lie in the space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from histo_mlflow.recipe import did_you_mean
from histo_mlflow.recipe.words import shown
from histo_mlflow.tuning.study.space import CategoricalAxis, Space, holds, same
from histo_mlflow.yaml_places import Mistake, Path


def guess_mistakes(
    space: Space, guesses: Sequence[Mapping[str, Any]], trials: int | None
) -> Iterator[Mistake]:
    """What is wrong with each guess. Axes that a guess leaves out are sampled.

    Args:
        space: axes without a mistake.
        guesses: with values as the recipe has them.
        trials: how many trials there are to be; None for no limit.
    """
    if trials is not None and len(guesses) > trials:
        yield Mistake(("enqueue",), f"has {len(guesses)} guesses for {trials} trials")
    for position, guess in enumerate(guesses):
        place: Path = ("enqueue", position)
        if not guess:
            yield Mistake(place, "names no axis: leave it out")
        if any(guess == other for other in guesses[:position]):
            yield Mistake(place, "is the same as an earlier guess")
        for name, value in guess.items():
            problem = _problem(space, guess, name, value)
            if problem is not None:
                yield Mistake((*place, name), problem)


def _problem(space: Space, guess: Mapping[str, Any], name: str, value: Any) -> str | None:
    axis = space.get(name)
    if axis is None:
        return f"is no axis of this study{did_you_mean(name, space)}"
    for parent, wanted in axis.when.items():
        allowed = " or ".join(shown(option) for option in wanted)
        if parent not in guess:
            return f"is searched only where {parent} is {allowed}: give {parent} as well"
        if not any(same(guess[parent], option) for option in wanted):
            return f"is searched only where {parent} is {allowed}, got {shown(guess[parent])}"
    if holds(axis, value):
        return None
    if isinstance(axis, CategoricalAxis):
        return f"should be one of {', '.join(shown(c) for c in axis.choices)}, got {shown(value)}"
    step = "" if axis.step is None else f" in steps of {axis.step:g}"
    return f"should be {axis.low:g} to {axis.high:g}{step}, got {shown(value)}"
