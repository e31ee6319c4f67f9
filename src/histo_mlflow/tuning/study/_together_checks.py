"""Whether the recipe takes the values of the axes together.

Every end and every choice is tried, alone and with each of another axis, its conditions met and all
other axes at a value they can have. What a recipe refuses is always a matter of two fields. What
only the model or the data can tell shows in the trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from histo_mlflow.recipe import Recipe, refusals
from histo_mlflow.recipe.words import shown
from histo_mlflow.tuning.study.space import (
    AnyAxis,
    CategoricalAxis,
    Conditions,
    Space,
    assignment,
    conditions,
    holds,
    meet,
)
from histo_mlflow.yaml_places import Mistake

_MOST_VALUES = 80
"""With more, only each for itself is tried; a pair costs 0.2 ms."""


def together_mistakes(base: Recipe, space: Space) -> Iterator[Mistake]:
    """What the recipe says of values that trials will have.

    Args:
        base: the study's recipe.
        space: axes without a mistake of their own; one whose condition names another is left out.
    """
    space = _closed(space)
    raw, flat = base.model_dump(mode="json"), base.flatten()
    usual = {name: _usual(axis, flat[name]) for name, axis in space.items()}

    def said(wanted: Conditions) -> list[str]:
        def choose(name: str, _: AnyAxis) -> Any:
            allowed = wanted.get(name)
            if allowed is None or usual[name] in allowed:
                return usual[name]
            return allowed[0]

        return refusals(raw, assignment(space, choose))

    told = set(always := said({}))
    for sentence in always:
        field = sentence.split()[0]
        yield Mistake(("space", field) if field in space else ("space",), sentence)
    tried: list[tuple[str, Any, Conditions]] = []
    for name, axis in space.items():
        for value in _ends(axis):
            wanted = meet(conditions(space, name), {name: (value,)})
            if wanted is None:
                continue
            tried.append((name, value, wanted))
            new = [sentence for sentence in said(wanted) if sentence not in told]
            told |= set(new)
            for sentence in new:
                yield Mistake(("space", name), f"{shown(value)} is refused: {sentence}")
    yield from _pairs(tried, said, told)


def _pairs(
    tried: list[tuple[str, Any, Conditions]],
    said: Callable[[Conditions], list[str]],
    told: set[str],
) -> Iterator[Mistake]:
    if len(tried) > _MOST_VALUES:
        return
    for later, (b, second, wanted_b) in enumerate(tried):
        for a, first, wanted_a in tried[:later]:
            if a == b or (wanted := meet(wanted_a, wanted_b)) is None:
                continue
            new = [sentence for sentence in said(wanted) if sentence not in told]
            told |= set(new)
            for sentence in new:
                yield Mistake(
                    ("space", b),
                    f"{shown(second)} does not go with {a}={shown(first)}: {sentence}",
                )


def _closed(space: Space) -> Space:
    """The axes whose conditions name only axes that are there."""
    kept: dict[str, AnyAxis] = {}
    for name, axis in space.items():
        if all(parent in kept for parent in axis.when):
            kept[name] = axis
    return kept


def _usual(axis: AnyAxis, of_recipe: Any) -> Any:
    """The base recipe's own value where the axis can have it, else its first."""
    if holds(axis, of_recipe):
        return of_recipe
    return axis.choices[0] if isinstance(axis, CategoricalAxis) else axis.low


def _ends(axis: AnyAxis) -> list[Any]:
    return list(axis.choices) if isinstance(axis, CategoricalAxis) else [axis.low, axis.high]
