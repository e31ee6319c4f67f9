"""What the keys of a study file say of each other and of the recipe."""

from __future__ import annotations

from collections.abc import Iterator

from histo_mlflow import recipe as recipes
from histo_mlflow.errors import RecipeError
from histo_mlflow.recipe import Recipe
from histo_mlflow.tuning.study._axis_checks import axis_mistakes
from histo_mlflow.tuning.study._guess_checks import guess_mistakes
from histo_mlflow.tuning.study._study_model import StudyFile, direction_of
from histo_mlflow.tuning.study._together_checks import together_mistakes
from histo_mlflow.tuning.study.design import LARGEST_GRID, grid_size
from histo_mlflow.tuning.study.pruners import Hyperband, OfEpochs, Patient, Pruner, Wilcoxon
from histo_mlflow.tuning.study.samplers import CmaEs, Gp, Grid
from histo_mlflow.tuning.study.space import CategoricalAxis, count
from histo_mlflow.yaml_places import Mistake, Path

_NOT_IN_SET = {
    "monitor": "is the study's metric: give it as metric",
    "folds": "belongs to the study here: give folds at the top of the file",
    "fold": "belongs to a training of one fold: a study with folds trains all of them",
}


def mistakes_in(study: StudyFile, dropped: set[Path]) -> list[Mistake]:
    """All that is wrong with a study whose keys were understood one by one.

    Args:
        study: with the recipe's values, from `_settle.settled`.
        dropped: parts that could not be read and are not in `study`; nothing is said of them.
    """
    base, found = _base(study, dropped)
    found += [
        *_direction(study, dropped),
        *_budget(study, dropped),
        *axis_mistakes(study.space, study.set, dropped),
    ]
    sound = {
        name: axis
        for name, axis in study.space.items()
        if not any(mistake.path[:2] == ("space", name) for mistake in found)
    }
    if ("pruner",) not in dropped:
        found += _pruner(study, base)
    if ("folds",) not in dropped:
        found += _folds(study, base)
    if len(sound) == len(study.space) and not any(path[0] == "space" for path in dropped):
        found += [*_sampler(study), *guess_mistakes(study.space, study.enqueue, study.trials)]
    if base is not None:
        found += together_mistakes(base, sound)
    return found


def _base(study: StudyFile, dropped: set[Path]) -> tuple[Recipe | None, list[Mistake]]:
    if ("recipe",) in dropped:
        return None, []
    try:
        named = recipes.load(study.recipe)
    except (RecipeError, OSError) as error:
        return None, [Mistake(("recipe",), str(error))]
    found = [Mistake(("set", name), _NOT_IN_SET[name]) for name in study.set if name in _NOT_IN_SET]
    overrides = {name: v for name, v in study.set.items() if name not in _NOT_IN_SET}
    if ("metric",) not in dropped:
        overrides["monitor"] = study.metric
    raw = named.model_dump(mode="json")
    refused = recipes.refusals(raw, overrides)
    for sentence in refused:
        words = sentence.removeprefix("unknown field ").split()
        place = ("set", words[0]) if words and words[0] in study.set else ("set",)
        found.append(Mistake(place, sentence))
    if refused:
        return None, found
    return recipes.build(raw, overrides, where=named.name), found


def _direction(study: StudyFile, dropped: set[Path]) -> Iterator[Mistake]:
    right = direction_of(study.metric)
    if study.direction != right and not {("metric",), ("direction",)} & dropped:
        yield Mistake(
            ("direction",),
            f"should be {right} for {study.metric}, got {study.direction}; it can be left out",
        )


def _budget(study: StudyFile, dropped: set[Path]) -> Iterator[Mistake]:
    given = study.trials is not None or study.wall_time is not None
    if not (given or isinstance(study.sampler, Grid) or {("trials",), ("wall_time",)} & dropped):
        yield Mistake(("trials",), "is missing: give trials or wall_time, or both")
    if not study.space and not any(path[0] == "space" for path in dropped):
        yield Mistake(("space",), "is empty: name at least one field of the recipe")


def _sampler(study: StudyFile) -> Iterator[Mistake]:
    name, space = study.sampler.name, study.space
    if isinstance(study.sampler, Grid):
        continuous = [axis_name for axis_name, axis in space.items() if count(axis) is None]
        for axis_name in continuous:
            yield Mistake(
                ("space", axis_name), "needs step (and no log) or choices: sampler grid counts"
            )
        if not continuous:
            yield from _grid(study, grid_size(space))
        return
    if isinstance(study.sampler, CmaEs):
        yield from _cmaes(study.sampler, study)
    numeric = [
        axis for axis in space.values() if not isinstance(axis, CategoricalAxis) and not axis.when
    ]
    needed = {CmaEs: 2, Gp: 1}.get(type(study.sampler), 0)
    if space and len(numeric) < needed:
        yield Mistake(
            ("sampler",),
            f"{name} needs at least {needed} numeric {'axes' if needed > 1 else 'axis'} without "
            f"when, got {len(numeric)}: take tpe",
        )


def _cmaes(sampler: CmaEs, study: StudyFile) -> Iterator[Mistake]:
    """Its state is one point in all numeric axes, made of what it proposed itself."""
    for name, axis in study.space.items():
        if axis.when and not isinstance(axis, CategoricalAxis):
            yield Mistake(("space", name, "when"), "does not go with sampler cmaes: take tpe")
    if sampler.startup_trials < len(study.enqueue):
        yield Mistake(
            ("sampler",),
            f"startup_trials of cmaes should be at least the number of guesses, "
            f"{len(study.enqueue)}, got {sampler.startup_trials}",
        )


def _grid(study: StudyFile, size: int) -> Iterator[Mistake]:
    if size > LARGEST_GRID:
        yield Mistake(
            ("sampler",), f"grid of more than {LARGEST_GRID:,} points: take random, qmc or tpe"
        )
    elif study.trials is not None and study.trials > size:
        yield Mistake(
            ("trials",), f"should be at most {size}, the points of the grid, got {study.trials}"
        )
    if study.enqueue:
        yield Mistake(("enqueue",), "does not go with sampler grid, which visits every point")


def _pruner(study: StudyFile, base: Recipe | None) -> Iterator[Mistake]:
    pruner, folds = study.pruner, study.folds
    if isinstance(pruner, Wilcoxon) and folds is None:
        yield Mistake(("pruner",), "wilcoxon compares folds: give folds, or take median")
    if isinstance(pruner, Wilcoxon) and folds is not None and pruner.first_p(folds) >= pruner.p:
        yield Mistake(
            ("pruner",),
            f"wilcoxon could end no trial before its last fold: after {folds - 1} folds the test's "
            f"p is at least {pruner.first_p(folds):g}, not below {pruner.p:g}; give more folds or "
            "a larger p, or take none",
        )
    if isinstance(pruner, OfEpochs) and folds is not None:
        yield Mistake(
            ("pruner",),
            f"{pruner.name} compares epochs, and a study with folds reports once a fold: take "
            "wilcoxon or none",
        )
    inner: Pruner = pruner
    place: Path = ("pruner",)
    if isinstance(pruner, Patient):
        inner, place = pruner.wraps, ("pruner", "wraps")
    if base is not None and isinstance(inner, Hyperband) and inner.min_epochs > study.most_epochs:
        yield Mistake(
            (*place, "min_epochs"),
            f"should be at most epochs={study.most_epochs}, got {inner.min_epochs}",
        )


def _folds(study: StudyFile, base: Recipe | None) -> Iterator[Mistake]:
    if base is None:
        return
    if base.split.folds is not None:
        yield Mistake(
            ("recipe",),
            f"{study.recipe} has folds={base.split.folds} itself, and a study trains one split: "
            "take them out of the recipe and give folds here",
        )
    if study.folds is not None and base.split.split != "group":
        yield Mistake(
            ("folds",),
            f"are made of whole groups and need split=group, the recipe has "
            f"split={base.split.split}: leave folds out, or set split: group",
        )
