"""What a study is, as it is kept in its storage: what must stay equal, and what may change.

Trials can only be compared, and a sampler can only learn from them, when they were made of the same
recipe, data, metric and space. How trials are chosen and ended may change between two sittings, but
a grid keeps its order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import TypeAdapter

from histo_mlflow import recipe as recipes
from histo_mlflow.errors import RecipeError, StudyError
from histo_mlflow.recipe import Recipe
from histo_mlflow.tuning.study._study_model import Direction, StudyFile
from histo_mlflow.tuning.study.pruners import Pruner, PrunerSpec
from histo_mlflow.tuning.study.samplers import Sampler, SamplerSpec
from histo_mlflow.tuning.study.space import Axis, Space

FORMAT = 1
_EQUAL = ("recipe", "data", "metric", "direction", "folds", "space")
_FREE = ("sampler", "pruner", "retries", "keep", "enqueue", "seed", "elsewhere")


@dataclass(frozen=True)
class Definition:
    """A study in plain JSON values.

    Attributes:
        recipe: flattened base recipe, but for its name and what stands in `elsewhere`.
        metric: of validation.
        direction: maximize or minimize.
        folds: group folds of a trial; None: the recipe's own split.
        space: the axes as a study file has them.
        data: digest of the images and of their division; None: not known yet.
        sampler, pruner, retries, keep, enqueue, seed: as in the study file.
        elsewhere: the base recipe's name and the fields that may differ between machines.
    """

    recipe: Mapping[str, Any]
    metric: str
    direction: Direction
    folds: int | None
    space: Mapping[str, Any]
    data: str | None
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    retries: int
    keep: int
    enqueue: tuple[Mapping[str, Any], ...]
    seed: int
    elsewhere: Mapping[str, Any]

    @classmethod
    def of(cls, study: StudyFile, *, data: str | None = None) -> Self:
        """The definition of a study that was read from its file."""
        here = {"recipe", "data_dir", *_machine()}
        flat = study.base().flatten()
        dumped = study.model_dump(mode="json")
        return cls(
            recipe={name: value for name, value in flat.items() if name not in here},
            metric=study.metric,
            direction=study.direction,
            folds=study.folds,
            space=dumped["space"],
            data=data,
            sampler=dumped["sampler"],
            pruner=dumped["pruner"],
            retries=study.retries,
            keep=study.keep,
            enqueue=tuple(dumped["enqueue"]),
            seed=study.seed,
            elsewhere={name: value for name, value in flat.items() if name in here},
        )

    def to_json(self) -> str:
        """As text that `from_json` reads back to an equal definition, in one line."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps({"format": FORMAT, **named}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            StudyError: it is something else, or of a later version.
        """
        try:
            read = json.loads(text)
            if read.pop("format") != FORMAT:
                raise ValueError("another format")
            made = cls(**{**read, "enqueue": tuple(read["enqueue"])})
            made.axes(), made.sampler_spec(), made.pruner_spec(), made.base()
        except (ValueError, TypeError, KeyError, AttributeError, RecipeError) as error:
            raise StudyError(
                "The study in the storage was begun by another version of histo-mlflow, or is not "
                "one of it: give the study file another name, or take another storage"
            ) from error
        return made

    def axes(self) -> Space:
        """The space, as `space.suggest` takes it."""
        return _SPACE.validate_python(dict(self.space))

    def sampler_spec(self) -> Sampler:
        """The sampler, as `samplers.make_sampler` takes it."""
        return _SAMPLER.validate_python(dict(self.sampler))

    def pruner_spec(self) -> Pruner:
        """The pruner, as `pruners.make_pruner` takes it."""
        return _PRUNER.validate_python(dict(self.pruner))

    def base(self) -> Recipe:
        """The base recipe, with this definition's machine fields and data folder."""
        fields = {**self.recipe, **self.elsewhere}
        name = fields.pop("recipe")
        return recipes.build({"name": name}, fields, where=str(name))


_SPACE: TypeAdapter[Space] = TypeAdapter(dict[str, Axis])
_SAMPLER: TypeAdapter[Sampler] = TypeAdapter(SamplerSpec)
_PRUNER: TypeAdapter[Pruner] = TypeAdapter(PrunerSpec)


def differences(begun: Definition, now: Definition) -> list[str]:
    """What makes two studies incomparable, a phrase each; empty: they are one.

    A `data` that is None is not compared.
    """
    return [*_compared(begun, now, _EQUAL), *_grids(begun, now)]


def changes(begun: Definition, now: Definition) -> list[str]:
    """What differs and may: the study goes on with what is given now."""
    return list(_compared(begun, now, _FREE))


def _compared(begun: Definition, now: Definition, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        was, is_now = getattr(begun, name), getattr(now, name)
        if name == "data" and None in (was, is_now):
            continue
        if name in ("recipe", "elsewhere"):
            # The metric is the recipe's monitor, and is named as the metric.
            yield from _mapping("", _but(was, "monitor"), _but(is_now, "monitor"))
        elif name == "space":
            yield from _spaces(was, is_now)
        elif name in ("sampler", "pruner"):
            yield from _mapping(f"{name}.", was, is_now)
        elif name == "data" and was != is_now:
            yield "the images or their division into training and validation are others"
        elif name == "enqueue" and was != is_now:
            yield f"the first guesses were {len(was)}, {len(is_now)} others are given"
        elif was != is_now:
            yield _phrase(name, was, is_now)


def _grids(begun: Definition, now: Definition) -> Iterator[str]:
    """A trial of a grid has the point of its number, in the order of one seed."""
    was, is_now = begun.sampler["name"], now.sampler["name"]
    why = " (a grid keeps its sampler and seed, or it would miss points)"
    if was != is_now and "grid" in (was, is_now):
        yield _phrase("sampler", was, is_now) + why
    elif was == "grid" and begun.seed != now.seed:
        yield _phrase("seed", begun.seed, now.seed) + why


def _spaces(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for axis in was:
        if axis not in now:
            yield f"space.{axis} was searched and is not any more"
        else:
            yield from _mapping(f"space.{axis}: ", was[axis], now[axis])
    for axis in now:
        if axis not in was:
            yield f"space.{axis} was not searched and is now"
    if set(was) == set(now) and list(was) != list(now):
        yield f"the order of space was {', '.join(was)}, {', '.join(now)} is given"


def _mapping(where: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in {**was, **now}:
        before, after = was.get(key), now.get(key)
        if before != after or (key in was) != (key in now):
            yield _phrase(where + key, before, after)


def _phrase(name: str, was: Any, now: Any) -> str:
    return f"{name} was {_shown(was)}, {_shown(now)} is given"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _but(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def _machine() -> set[str]:
    return {field.name for field in recipes.fields() if field.section == "machine"}
