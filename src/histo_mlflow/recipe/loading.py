"""From YAML and overrides to a recipe, with every mistake at once."""

from __future__ import annotations

import stat
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from histo_mlflow.errors import RecipeError
from histo_mlflow.recipe.sections import Recipe, fields, sections
from histo_mlflow.recipe.words import did_you_mean, of_file, sentence, shown
from histo_mlflow.yaml_places import Read, read_file


def recipe_folder() -> Path:
    """Where the shipped recipes are: the checkout's `experiments/`, or what a wheel installed."""
    checkout = Path(__file__).parents[3] / "experiments"
    installed = Path(sysconfig.get_path("data")) / "share" / "histo-mlflow" / "experiments"
    return checkout if checkout.is_dir() else installed


def shipped() -> dict[str, Path]:
    """Name -> file of every recipe that comes with the project."""
    return {path.stem: path for path in sorted(recipe_folder().glob("*.yaml"))}


def load(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe by its shipped name or its path, and lay overrides over it.

    Args:
        name_or_path: `ham10000`, or a path that ends in .yaml.
        overrides: leaf name -> value; text is converted as on the command line.

    Raises:
        RecipeError: naming every unknown field and every wrong value at once, with its line where
            the file has it.
    """
    path = _find(name_or_path)
    content = _content(path)
    recipe, problems = _validated({"name": path.stem, **content.data}, overrides or {}, content)
    if recipe is None:
        raise RecipeError(f"recipe {name_or_path}: " + "; ".join(problems))
    return recipe


def build(raw: Mapping[str, Any], overrides: Mapping[str, Any], *, where: str) -> Recipe:
    """Validate a recipe given as nested mappings; see `load`."""
    recipe, problems = _validated(raw, overrides)
    if recipe is None:
        raise RecipeError(f"recipe {where}: " + "; ".join(problems))
    return recipe


def refusals(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> list[str]:
    """What `build` would refuse, a sentence each that begins with the field's name."""
    return _validated(raw, overrides)[1]


def field_value(name: str, value: Any) -> Any:
    """One field's value as a recipe has it (text converted, JSON types), whatever the other fields.

    Raises:
        RecipeError: the field does not take it; the sentence begins with the field's name.
    """
    home = next(field.section for field in fields() if field.name == name)
    try:
        section = sections()[home].model_validate({name: value})
    except ValidationError as error:
        found = [{**detail, "loc": (home, *detail["loc"])} for detail in error.errors()]
        told = [sentence(detail, [name]) for detail in found]
        raise RecipeError("; ".join(told)) from error
    return section.model_dump(mode="json")[name]


def _validated(
    raw: Mapping[str, Any], overrides: Mapping[str, Any], content: Read | None = None
) -> tuple[Recipe | None, list[str]]:
    """The recipe, or what is wrong with it; `content` is the file that it was read from."""
    home = {field.name: field.section for field in fields()}
    merged: dict[str, Any] = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()
    }
    content = content or Read()
    problems = []
    given = set()
    for name, value in overrides.items():
        if name not in home:
            problems.append(f"unknown field {name}{did_you_mean(name, home)}")
            continue
        section = merged.setdefault(home[name], {})
        if isinstance(section, dict):
            section[name] = value
            given.add((home[name], name))
    # What an override replaces may be as it likes.
    mistakes = [one for one in content.mistakes if one.path[:2] not in given]
    problems += [of_file(mistake, content) for mistake in mistakes]
    # Of a value that was misread nothing more can be said; of the rest of a section it can.
    misread = {one.path for one in mistakes if not isinstance(_at(raw, one.path), Mapping)}
    recipe = None
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as error:
        known = [*home, *sections(), "name", "summary"]
        for detail in error.errors():
            place = detail["loc"]
            if misread and not place:
                continue  # whether fields agree shows when all of them can be read
            if not any(place[: len(path)] == path for path in misread):
                # What fields have against each other stands in no one line.
                line = None if not place or place[:2] in given else content.line(place)
                problems.append(sentence(detail, known, line))
    return (None if problems else recipe), problems


def _at(raw: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if problem := no_file(path, "recipe"):
            raise RecipeError(problem)
        return path
    known = shipped()
    if name_or_path not in known:
        raise RecipeError(
            f"no recipe is called {name_or_path!r}{did_you_mean(name_or_path, known)}; "
            f"there are {', '.join(known)}, or give the path of a .yaml file"
        )
    return known[name_or_path]


def no_file(path: Path, what: str) -> str | None:
    """Why a path given for a recipe or a study (`what`) is no file to read; None: it is one."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"no {what} file at {path}"
    except (OSError, ValueError) as error:
        # Too long, not to be looked into, links in a circle, or a null byte in the name.
        return f"{str(path)!r} cannot be a {what} file: {getattr(error, 'strerror', '') or error}"
    if stat.S_ISDIR(mode):
        return f"{path} is a folder, and should be a {what} file"
    return (
        None if stat.S_ISREG(mode) else f"{path} is no ordinary file, and should be a {what} file"
    )


def _content(path: Path) -> Read:
    try:
        content = read_file(path, "recipe")
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if not isinstance(content.data, dict):
        got = "it is empty" if content.data is None else f"got {shown(content.data)}"
        raise RecipeError(f"{path} should hold the sections of a recipe, {got}")
    return content
