"""What is wrong with a single axis: its field, its ends, its choices, its conditions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from histo_mlflow import recipe as recipes
from histo_mlflow.errors import HistoMlflowError, RecipeError
from histo_mlflow.recipe import AugmentSection, RecipeField, did_you_mean, field_value, no_file
from histo_mlflow.recipe.words import shown
from histo_mlflow.tuning.study.space import (
    AnyAxis,
    CategoricalAxis,
    FloatAxis,
    Space,
    conditions,
    count,
    holds,
    same,
    value_at,
)
from histo_mlflow.yaml_places import Mistake, Path

_SECTIONS = {
    "data": "other images are another task",
    "split": "with other validation images the easiest would win",
    "machine": "it says where a training runs, not what is trained",
}
_FIELDS = {"seed": "the luckiest seed would win", "monitor": "it is the study's metric"}
LONGEST_CHOICE = 500


def axis_mistakes(space: Space, fixed: Mapping[str, Any], dropped: set[Path]) -> Iterator[Mistake]:
    """Everything that can be said of each axis without training anything.

    Args:
        space: the axes that could be read.
        fixed: the study's `set`.
        dropped: parts that could not be read; conditions on such axes are not judged.
    """
    leaves = {field.name: field for field in recipes.fields()}
    earlier: list[str] = []
    for name, axis in space.items():
        place: Path = ("space", name)
        if name not in leaves:
            hint = did_you_mean(name, leaves)
            yield Mistake(place, f"is no field of a recipe{hint}")
        else:
            yield from _field(place, leaves[name], axis, fixed)
        yield from _range(place, axis)
        yield from _when(place, axis, space, earlier, dropped)
        earlier.append(name)


def _field(
    place: Path, field: RecipeField, axis: AnyAxis, fixed: Mapping[str, Any]
) -> Iterator[Mistake]:
    why = _FIELDS.get(field.name) or _SECTIONS.get(field.section)
    if why is not None:
        yield Mistake(place, f"is not to be searched: {why}")
        return
    if field.name in fixed and not axis.when:
        yield Mistake(
            place,
            "is searched and in set (or on the command line) as well: leave one out; only an axis "
            "with when can have a value in set, which it has where it is not searched",
        )
    if isinstance(axis, CategoricalAxis):
        for position, choice in enumerate(axis.choices):
            yield from _taken((*place, "choices", position), field.name, choice)
        return
    if field.kind not in {"integer", "number"}:
        yield Mistake(place, f"has values of the kind {field.kind}: take type categorical")
        return
    if field.kind == "integer" and isinstance(axis, FloatAxis):
        yield Mistake((*place, "type"), "should be int: the field counts in integers")
        return
    for end in ("low", "high"):
        yield from _taken((*place, end), field.name, getattr(axis, end))


def _taken(place: Path, name: str, value: Any) -> Iterator[Mistake]:
    """Whether the recipe has a place for a value, whatever its other fields."""
    try:
        field_value(name, value)
        if name in _LISTED:
            _LISTED[name](value)
        elif name in AugmentSection.model_fields:
            _augmentation(name, value)
    except HistoMlflowError as error:
        yield Mistake(place, str(error))


def _policy(value: Any) -> None:
    from histo_mlflow.vision.augment import policy

    policy(value)


def _augmentation(name: str, value: Any) -> None:
    from histo_mlflow.vision.augment import policy

    if value is not None:
        policy("none", **{name: tuple(value) if isinstance(value, list) else value})


def _model(value: Any) -> None:
    from histo_mlflow.models.backbones import full_name

    full_name(value)


def _weights(value: Any) -> None:
    if value in {"none", "imagenet"}:
        return
    try:
        problem = no_file(FilePath(value).expanduser(), "weights")
    except RuntimeError:
        # There is no such user's home folder.
        problem = f"no weights file at {value}"
    if problem is not None:
        raise RecipeError(f"weights should be imagenet, none or a file: {problem}")


_LISTED = {"policy": _policy, "model": _model, "weights": _weights}
"""Fields that are text to the recipe, and a name to what uses it. The first two need torch."""


def _range(place: Path, axis: AnyAxis) -> Iterator[Mistake]:
    if isinstance(axis, CategoricalAxis):
        yield from _choices(place, axis)
        return
    if axis.low >= axis.high:
        yield Mistake(
            place, f"low should be below high, got low {axis.low:g} and high {axis.high:g}"
        )
        return
    if axis.log and axis.low <= 0:
        yield Mistake((*place, "low"), f"should be above 0 with log, got {axis.low:g}")
    stepped = axis.step is not None if isinstance(axis, FloatAxis) else axis.step != 1
    if axis.log and stepped:
        yield Mistake((*place, "step"), "does not go with log: leave one out")
    elif stepped and not holds(axis, axis.high):
        last = value_at(axis, (count(axis) or 1) - 1)
        yield Mistake(
            (*place, "high"),
            f"should be low and a whole number of steps, such as {last:g} or "
            f"{_sum(last, axis.step):g}, got {axis.high:g}",
        )


def _sum(a: Any, b: Any) -> float:
    return round(float(a) + float(b), 12)


def _choices(place: Path, axis: CategoricalAxis) -> Iterator[Mistake]:
    place = (*place, "choices")
    if len(axis.choices) < 2:
        yield Mistake(place, "should be two or more: one alone belongs into set")
    for (i, a), (j, b) in itertools.combinations(enumerate(axis.choices), 2):
        if same(a, b):
            yield Mistake((*place, j), f"is the same as choice {i}: {shown(b)}")
    for position, choice in enumerate(axis.choices):
        if len(json.dumps(choice, default=str)) > LONGEST_CHOICE:
            yield Mistake((*place, position), f"is longer than {LONGEST_CHOICE} characters")


def _when(
    place: Path, axis: AnyAxis, space: Space, earlier: list[str], dropped: set[Path]
) -> Iterator[Mistake]:
    name = place[1]
    sound = True
    for parent, wanted in axis.when.items():
        here: Path = (*place, "when", parent)
        if ("space", parent) in dropped or ("space",) in dropped:
            sound = False
            continue
        problem = None
        if parent == name:
            problem = "is the axis itself"
        elif parent not in space:
            problem = f"is no axis of this study{did_you_mean(parent, earlier)}"
        elif parent not in earlier:
            problem = f"stands later in the file: move it before {name}"
        elif count(space[parent]) is None:
            problem = "is continuous: a condition needs an axis of type int or categorical"
        elif not wanted:
            problem = "names no value"
        else:
            strange = [value for value in wanted if not holds(space[parent], value)]
            if strange:
                problem = f"never has the value {shown(strange[0])}"
        if problem is not None:
            sound = False
            yield Mistake(here, problem)
    if sound and axis.when and _contradicts(axis, space, earlier):
        yield Mistake((*place, "when"), "can never be met: the conditions contradict each other")


def _contradicts(axis: AnyAxis, space: Space, earlier: list[str]) -> bool:
    return conditions({**{name: space[name] for name in earlier}, "": axis}, "") is None
