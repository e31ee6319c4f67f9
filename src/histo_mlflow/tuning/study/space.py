"""The search space: fields of the recipe, the values that each may take, and when it is searched.

An axis is named like the recipe's field. Its value in Optuna is the recipe's own, but for choices
that are lists or mappings: Optuna's are numbers and text, so they are JSON there. Axes stand in the
order of the file, and a condition (`when`) names earlier ones, so that one walk from the first to
the last decides what is active.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from histo_mlflow.recipe import Recipe, build
from histo_mlflow.tuning.study._part import Count, Number, Part
from histo_mlflow.tuning.study.recipe_name import recipe_name

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

Conditions = dict[str, tuple[Any, ...]]
_LARGEST = 10**9


class _Axis(Part):
    when: Conditions = Field(
        default_factory=dict,
        description="searched only where all these earlier axes have one of these values",
    )

    @field_validator("when", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: tuple(v) if isinstance(v, list | tuple) else (v,) for k, v in value.items()}


class FloatAxis(_Axis):
    """A range of real numbers, ends included; with `step` only low, low + step, ..."""

    type: Literal["float"]
    low: Number = Field(ge=-_LARGEST, le=_LARGEST)
    high: Number = Field(ge=-_LARGEST, le=_LARGEST)
    log: bool = False
    step: Number | None = Field(None, ge=1 / _LARGEST, le=_LARGEST)


class IntAxis(_Axis):
    """A range of integers, ends included; with `step` only low, low + step, ..."""

    type: Literal["int"]
    low: Count = Field(ge=-_LARGEST, le=_LARGEST)
    high: Count = Field(ge=-_LARGEST, le=_LARGEST)
    log: bool = False
    step: Count = Field(1, ge=1, le=_LARGEST)


class CategoricalAxis(_Axis):
    """One of some values, in no order."""

    type: Literal["categorical"]
    choices: tuple[Any, ...] = Field(min_length=1, max_length=100)


Axis = Annotated[FloatAxis | IntAxis | CategoricalAxis, Field(discriminator="type")]
Space = Mapping[str, FloatAxis | IntAxis | CategoricalAxis]
AnyAxis = FloatAxis | IntAxis | CategoricalAxis


def suggest(space: Space, trial: BaseTrial) -> dict[str, Any]:
    """Ask a trial for the value of every axis that is active in it.

    Args:
        space: the axes, in the order of the file.
        trial: running, or frozen; one that has a value already gives it back.

    Returns:
        Field of the recipe -> value, to be laid over the base recipe; inactive axes are left out.

    Raises:
        ValueError: a frozen trial that ended before it had a value for every active axis.
    """
    return assignment(space, lambda name, axis: _suggest(trial, name, axis))


def assignment(space: Space, choose: Callable[[str, AnyAxis], Any]) -> dict[str, Any]:
    """Walk the axes from the first to the last and choose a value for each that is active."""
    values: dict[str, Any] = {}
    for name, axis in space.items():
        if is_active(axis, values):
            values[name] = choose(name, axis)
    return values


def is_active(axis: AnyAxis, values: Mapping[str, Any]) -> bool:
    """Whether an axis is searched, given the values of those before it."""
    return all(
        name in values and any(same(values[name], allowed) for allowed in wanted)
        for name, wanted in axis.when.items()
    )


def conditions(space: Space, name: str) -> Conditions | None:
    """The values that other axes must have for one to be active, through all of their conditions.

    Returns:
        Axis -> values; None: no values meet all conditions.
    """
    needed: Conditions | None = dict(space[name].when)
    for parent in space[name].when.keys() & space.keys():
        needed = meet(needed, conditions(space, parent))
    return needed


def meet(a: Conditions | None, b: Conditions | None) -> Conditions | None:
    """Both conditions at once; None: they contradict each other."""
    if a is None or b is None:
        return None
    both = {**a, **b}
    for name in a.keys() & b.keys():
        both[name] = tuple(v for v in a[name] if any(same(v, w) for w in b[name]))
        if not both[name]:
            return None
    return both


def same(a: Any, b: Any) -> bool:
    """Whether two values of a field are one: 1 and 1.0 are, 1 and true are not."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def fixed_params(space: Space, guess: Mapping[str, Any]) -> dict[str, Any]:
    """A first guess as Optuna's params; axes that it leaves out are sampled."""
    return {name: to_param(guess[name]) for name in space if name in guess}


def trial_recipe(base: Recipe, values: Mapping[str, Any], *, name: str) -> Recipe:
    """The base recipe with a trial's values, under a name of its own.

    Characters of the name that a recipe's cannot have become `_`: a study may have any.

    `data_dir: auto` means a folder with the recipe's name, so that of the base recipe is written
    out.

    Raises:
        RecipeError: values that do not go together.
    """
    raw = {**base.model_dump(mode="json"), "name": recipe_name(name)}
    if base.data.data_dir == "auto" and base.data.source != "demo":
        raw["data"] = {**raw["data"], "data_dir": f"data/{base.name}"}
    return build(raw, values, where=name)


def distribution(axis: AnyAxis) -> BaseDistribution:
    """The axis as Optuna's distribution."""
    from optuna import distributions as optuna_distributions

    if isinstance(axis, FloatAxis):
        return optuna_distributions.FloatDistribution(
            axis.low, axis.high, log=axis.log, step=axis.step
        )
    if isinstance(axis, IntAxis):
        return optuna_distributions.IntDistribution(
            axis.low, axis.high, log=axis.log, step=axis.step
        )
    return optuna_distributions.CategoricalDistribution([to_param(c) for c in axis.choices])


def to_param(value: Any) -> Any:
    """A value as Optuna keeps it."""
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, sort_keys=True)
    return value


def from_param(axis: AnyAxis, param: Any) -> Any:
    """A value as the recipe takes it.

    Raises:
        ValueError: text that is none of the choices, as in a study with another space.
    """
    if isinstance(axis, FloatAxis):
        return nearest(axis, param)
    if isinstance(axis, IntAxis):
        return param
    for choice in axis.choices:
        if same(to_param(choice), param):
            return choice
    raise ValueError(f"{param!r} is none of the choices {list(axis.choices)}")


def count(axis: AnyAxis) -> int | None:
    """How many values an axis has; None: it is continuous."""
    if isinstance(axis, CategoricalAxis):
        return len(axis.choices)
    if axis.step is None:
        return None
    span = Decimal(str(axis.high)) - Decimal(str(axis.low))
    return int(span // Decimal(str(axis.step))) + 1


def value_at(axis: AnyAxis, position: int) -> Any:
    """One of the values of a counted axis: from low to high, or in the order of the file."""
    if isinstance(axis, CategoricalAxis):
        return axis.choices[position]
    if isinstance(axis, IntAxis):
        return axis.low + axis.step * position
    return float(Decimal(str(axis.low)) + Decimal(str(axis.step)) * position)


def nearest(axis: FloatAxis, value: float) -> float:
    """The exact value of a stepped axis: Optuna's third step of 0.1 is 0.30000000000000004."""
    if axis.step is None:
        return value
    return float(value_at(axis, round((value - axis.low) / axis.step)))


def holds(axis: AnyAxis, value: Any) -> bool:
    """Whether a value can come out of an axis."""
    if isinstance(axis, CategoricalAxis):
        return any(same(value, choice) for choice in axis.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not axis.low <= value <= axis.high:
        return False
    if isinstance(axis, IntAxis):
        return (value - axis.low) % axis.step == 0
    return axis.step is None or math.isclose(value, nearest(axis, value), rel_tol=1e-9)


def _suggest(trial: BaseTrial, name: str, axis: AnyAxis) -> Any:
    if isinstance(axis, FloatAxis):
        given = trial.suggest_float(name, axis.low, axis.high, log=axis.log, step=axis.step)
        return nearest(axis, given)
    if isinstance(axis, IntAxis):
        return trial.suggest_int(name, axis.low, axis.high, log=axis.log, step=axis.step)
    return from_param(axis, trial.suggest_categorical(name, [to_param(c) for c in axis.choices]))
