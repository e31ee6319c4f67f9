"""The values of a study as the recipe has them: text converted, lists for pairs.

YAML reads 1e-3 as text and a command line has nothing else; a recipe converts, and so must a space,
or a choice and the value of a condition on it would differ.
"""

from __future__ import annotations

from typing import Any

from histo_mlflow import recipe as recipes
from histo_mlflow.errors import RecipeError
from histo_mlflow.recipe import field_value
from histo_mlflow.tuning.study._study_model import StudyFile
from histo_mlflow.tuning.study.space import AnyAxis, CategoricalAxis

_LEAVES = frozenset(field.name for field in recipes.fields())


def settled(study: StudyFile) -> StudyFile:
    """The study with such values; those that the recipe refuses stay for the checks to name."""
    space = {name: _axis(name, axis) for name, axis in study.space.items()}
    guesses = tuple(
        {name: _value(name, value) for name, value in guess.items()} for guess in study.enqueue
    )
    fields = {name: _value(name, value) for name, value in study.set.items()}
    return study.model_copy(update={"set": fields, "space": space, "enqueue": guesses})


def _axis(name: str, axis: AnyAxis) -> AnyAxis:
    changed: dict[str, Any] = {
        "when": {
            parent: tuple(_value(parent, value) for value in wanted)
            for parent, wanted in axis.when.items()
        }
    }
    if isinstance(axis, CategoricalAxis):
        changed["choices"] = tuple(_value(name, choice) for choice in axis.choices)
    return axis.model_copy(update=changed)


def _value(name: str, value: Any) -> Any:
    if name not in _LEAVES or isinstance(value, bool):
        return value
    try:
        return field_value(name, value)
    except RecipeError:
        return value
