"""Which trainings a cross-validation is made of, and which of them is which run.

crossval.json, in the folder of the cross-validation, is written anew as soon as a fold has a run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from histo_mlflow import files
from histo_mlflow.errors import DataError, RecipeError, ResumeError, SplitError
from histo_mlflow.jobs.prepare import divide
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.recipe import Recipe, build

FORMAT = 1
DEFAULT_FOLDS = 5
How = Literal["group", "row"]


@dataclass(frozen=True)
class Fold:
    """One training of a cross-validation: how the folds are drawn, and which one is tested."""

    how: How
    number: int

    @property
    def name(self) -> str:
        """Such as "group-0"; the fold's name in notes, keys and file names."""
        return f"{self.how}-{self.number}"

    def recipe(self, base: Recipe) -> Recipe:
        """The recipe that trains it."""
        given = {"split": self.how, "fold": self.number}
        return build(base.model_dump(mode="json"), given, where=base.name)


@dataclass(frozen=True)
class Notes:
    """What is noted of a cross-validation: its size, and the id of each fold's run by name."""

    folds: int
    leak_gap: bool
    runs: Mapping[str, str]

    def all_folds(self) -> tuple[Fold, ...]:
        """Every training, in the order in which they are done."""
        hows: tuple[How, ...] = ("group", "row") if self.leak_gap else ("group",)
        return tuple(Fold(how, number) for how in hows for number in range(self.folds))

    def with_run(self, fold: Fold, run_id: str) -> Notes:
        """The notes with the run of a fold."""
        return replace(self, runs={**self.runs, fold.name: run_id})


def planned(recipe: Recipe) -> Recipe:
    """The recipe of a cross-validation, which is that of its first fold; 5 folds if it names none.

    Raises:
        RecipeError: it asks for one fold alone, or for another split than by group.
    """
    split = recipe.split
    if split.split != "group":
        raise RecipeError(
            f"Expected split=group for a cross-validation, got split={split.split}: folds are made "
            "of whole groups, and --leak-gap adds those that are drawn row by row"
        )
    if split.fold:
        raise RecipeError(
            f"Expected no fold for a cross-validation, which trains every one, got "
            f"fold={split.fold}: leave it out, or train that fold alone by histo-mlflow train"
        )
    return build(
        recipe.model_dump(mode="json"), {"folds": split.folds or DEFAULT_FOLDS}, where=recipe.name
    )


def worst_crossing(ready: Ready, notes: Notes) -> int:
    """Divide the data set as every fold will; the most images that cross the split in one by group.

    Raises:
        SplitError: it cannot be divided so.
    """
    prepared, most = ready.prepared, 0
    manifest = prepared.manifest
    if (groups := manifest.table["group"].nunique()) < notes.folds:
        raise SplitError(
            f"Expected at most as many folds as there are groups, got {notes.folds} folds of "
            f"{groups:,} {manifest.group_kind} groups: give a smaller --folds"
        )
    for fold in notes.all_folds():
        try:
            splits = divide(manifest, fold.recipe(ready.recipe), prepared.leaks)
        except SplitError as error:
            raise SplitError(f"fold {fold.number} of {notes.folds}, by {fold.how}: {error}") from (
                error
            )
        if fold.how == "group":
            most = max(most, prepared.leaks.crossing(splits.table["split"].tolist()))
    return most


def begun_notes(folder: RunFolder, recipe: Recipe, leak_gap: bool | None) -> Notes:
    """The notes of a cross-validation that was begun, if it is the one that is asked for.

    Args:
        folder: of a run.
        recipe: from `planned`.
        leak_gap: None takes what it was begun with.

    Raises:
        ResumeError: it is a training, was begun otherwise, or the notes cannot be read.
    """
    notes = read_notes(folder)
    if notes is None and folder.checkpoints.exists():
        raise ResumeError(
            f"{folder.path} holds a training, and no cross-validation: go on with it by "
            f"histo-mlflow train --run-dir {shlex.quote(str(folder.path))}"
        )
    if notes is None:  # killed before its first note
        return new_notes(recipe, leak_gap)
    if leak_gap is not None and leak_gap != notes.leak_gap:
        begun, now = ("with", "without") if notes.leak_gap else ("without", "with")
        raise ResumeError(
            f"the cross-validation in {folder.path} was begun {begun} --leak-gap and is to go on "
            f"{now} it: give what it was begun with, or start a new one"
        )
    return notes


def new_notes(recipe: Recipe, leak_gap: bool | None) -> Notes:
    """The notes of a cross-validation that begins."""
    return Notes(recipe.split.folds or DEFAULT_FOLDS, bool(leak_gap), {})


def read_notes(folder: RunFolder) -> Notes | None:
    """The notes in a folder; None where there are none.

    Raises:
        ResumeError: they are not as they were written.
    """
    if not folder.crossval.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(folder.crossval.read_text("utf-8"))
        if found.pop("format") != FORMAT:
            raise DataError(f"format {FORMAT} was expected")
        return Notes(**found)
    except (ValueError, TypeError, KeyError, AttributeError, DataError) as error:
        raise ResumeError(
            f"{folder.crossval} is not as it was written ({error}): start a new cross-validation, "
            "or take the version of histo-mlflow that began it"
        ) from error


def write_notes(folder: RunFolder, notes: Notes) -> None:
    """Write the notes, whole and safe on disk."""
    files.write_json(folder.crossval, {"format": FORMAT, **asdict(notes)})
