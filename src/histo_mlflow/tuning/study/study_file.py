"""A study file: which fields of which recipe are searched, how, and for how long.

>>> load_study("demo").metric
'val/auc'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from histo_mlflow import recipe as recipes
from histo_mlflow.errors import StudyError
from histo_mlflow.recipe import did_you_mean, no_file
from histo_mlflow.recipe.words import shown
from histo_mlflow.tuning.study._settle import settled
from histo_mlflow.tuning.study._study_checks import mistakes_in
from histo_mlflow.tuning.study._study_model import Confirm, Direction, StudyFile
from histo_mlflow.tuning.study._study_words import sentences
from histo_mlflow.tuning.study.pruners import over_folds
from histo_mlflow.yaml_places import Mistake, Read, read_file

__all__ = ["OVERRIDES", "Confirm", "Direction", "StudyFile", "load_study", "shipped_studies"]

_LEAVES = frozenset(field.name for field in recipes.fields())
OVERRIDES = ("trials", "wall_time", "retries", "keep", "seed", "folds")
"""Keys of a study that the command line may replace; its other options are fields of the recipe."""


def study_folder() -> Path:
    """Where the shipped studies are: beside the shipped recipes."""
    return recipes.recipe_folder() / "studies"


def shipped_studies() -> dict[str, Path]:
    """Name -> file of every study that comes with the project."""
    return {path.stem: path for path in sorted(study_folder().glob("*.yaml"))}


def load_study(
    name_or_path: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    say: Callable[[str, str], None] | None = None,
) -> StudyFile:
    """Read a study by its shipped name or its path.

    Args:
        name_or_path: `demo`, or a path that ends in .yaml.
        overrides: what the command line gives: keys of the study in `OVERRIDES`, fields of the
            recipe otherwise, which join `set`. Values may be text.
        say: is told, by a word and a sentence, of a key of the file that gives way to `overrides`.

    Returns:
        The study, with `recipe` as a shipped name or an absolute path, and every value of the
        space, the conditions and the guesses as the recipe has it ("1e-3" is 0.001).

    Raises:
        StudyError: naming every mistake at once, each with its file, line and keys.
    """
    path = _find(name_or_path)
    content = _content(path)
    given = overrides or {}
    of_file = set(content.mistakes)
    raw = _merged(content, path, given)
    # A file that has both itself is mistaken; one that is given folds only now is not.
    given_folds = "folds" in given and content.data.get("folds") is None
    study, mistakes = _understood(raw, path, given_folds=given_folds)
    mistakes = [*content.mistakes, *mistakes]
    if study is None or mistakes:
        told = [
            _told(mistake, path, content, {} if mistake in of_file else given)
            for mistake in _in_order(mistakes, content)
        ]
        raise StudyError("\n".join(dict.fromkeys(told)))
    if say is not None and given_folds:
        _tell_of_pruner(raw.get("pruner"), study, say)
    return study


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if problem := no_file(path, "study"):
            raise StudyError(problem)
        return path
    known = shipped_studies()
    if name_or_path not in known:
        near = [f"{name_or_path}{ending}" for ending in (".yaml", ".yml")]
        there = [name for name in near if no_file(Path(name), "study") is None]
        hint = did_you_mean(name_or_path, known)
        hint = f" (did you mean the file {there[0]}?)" if there else hint
        raise StudyError(
            f"no study is called {name_or_path!r}{hint}; "
            f"there are {', '.join(known)}, or give the path of a .yaml file"
        )
    return known[name_or_path]


def _content(path: Path) -> Read:
    try:
        content = read_file(path, "study")
    except ValueError as error:
        raise StudyError(str(error)) from error
    if not isinstance(content.data, dict):
        got = "it is empty" if content.data is None else f"got {shown(content.data)}"
        raise StudyError(
            f"{path} should hold the keys of a study (recipe, metric, space, ...), {got}"
        )
    return content


def _merged(content: Read, path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The file's content with what the command line gives."""
    raw = dict(content.data)
    if "name" in raw:
        content.mistakes.append(Mistake(("name",), "is not a key: a study is called as its file"))
    raw["name"] = path.stem
    fields = dict(raw["set"]) if isinstance(raw.get("set"), dict) else {}
    for key, value in given.items():
        if key in OVERRIDES:
            blank = isinstance(value, str) and value.strip().lower() in {"", "null", "none"}
            raw[key] = None if blank else value
        elif key in _LEAVES:
            fields[key] = value
        else:
            hint = did_you_mean(key, [*OVERRIDES, *sorted(_LEAVES)])
            content.mistakes.append(Mistake((key,), f"is no key of a study or recipe{hint}"))
    if fields and isinstance(raw.get("set", {}), dict | None):
        raw["set"] = fields
    if isinstance(raw.get("recipe"), str) and raw["recipe"].endswith((".yaml", ".yml")):
        with suppress(OSError, ValueError, RuntimeError):
            # Of what cannot be a path: the recipe's loader names it.
            raw["recipe"] = str((path.parent / raw["recipe"]).resolve())
    return raw


def _tell_of_pruner(asked: Any, study: StudyFile, say: Callable[[str, str], None]) -> None:
    was = asked["name"] if isinstance(asked, Mapping) else asked
    if was is not None and was != study.pruner.name:
        say(
            "changed",
            f"pruner was {was}, {study.pruner.name} is taken: {was} compares epochs, and a study "
            "with folds reports once a fold",
        )


def _understood(
    raw: dict[str, Any], path: Path, *, given_folds: bool
) -> tuple[StudyFile | None, list[Mistake]]:
    """The study and all mistakes; what pydantic refuses is left out for the checks after it."""
    whole, mistakes = dict(raw), []
    dropped: set[tuple[str | int, ...]] = set()
    study = None
    for _ in range(2):
        try:
            study = StudyFile.model_validate(whole)
            break
        except ValidationError as error:
            told = sentences(error, whole)
            mistakes += [mistake for mistake, _ in told]
            dropped |= {part for _, part in told}
            whole = _without(raw, dropped)
    if study is None:
        return None, mistakes
    study = settled(study)
    if given_folds and study.folds is not None:
        study = study.model_copy(update={"pruner": over_folds(study.pruner, study.folds)})
    return study, [*mistakes, *mistakes_in(study, dropped)]


def _without(raw: Mapping[str, Any], dropped: set[tuple[str | int, ...]]) -> dict[str, Any]:
    """The raw study without its broken parts, and with stand-ins for what it cannot do without."""
    kept: dict[str, Any] = {}
    for key, value in raw.items():
        if (key,) in dropped:
            continue
        if isinstance(value, Mapping):
            value = {k: v for k, v in value.items() if (key, k) not in dropped}
        kept[key] = value
    return {"metric": "val/auc", "recipe": "", "space": {}, "name": "study", **kept}


def _in_order(mistakes: Iterable[Mistake], content: Read) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: content.line(mistake.path) or 0)


def _told(mistake: Mistake, path: Path, content: Read, given: Mapping[str, Any]) -> str:
    """The mistake after its place: file, line and keys, or the option of the command line."""
    keys = ".".join(str(part) for part in mistake.path)
    option = next((str(part) for part in reversed(mistake.path) if part in given), None)
    if option is not None and mistake.path[0] in {"set", option}:
        return f"command line, --{option.replace('_', '-')}: {mistake.message}"
    line = content.line(mistake.path)
    where = f"{path}, line {line}" if line else str(path)
    return f"{where}, {keys}: {mistake.message}" if keys else f"{where}: {mistake.message}"
