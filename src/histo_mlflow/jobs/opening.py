"""The run of a training: that of its folder, or a new one that the folder learns of."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from histo_mlflow import files
from histo_mlflow.device import DevicePlan
from histo_mlflow.jobs.closing import closing_if_left
from histo_mlflow.jobs.resume import machine
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.lifecycle import find_or_make
from histo_mlflow.tracking.store import Store


@dataclass(frozen=True)
class Child:
    """What is different about a training whose run belongs to another one, such as a fold.

    It has nothing to do with the run of an `mlflow run`.

    Attributes:
        parent: id of the run that it belongs to.
        key: finds the run again; one that has it already is gone on with.
        tags: of the run, besides those of every training.
        plan: device, precision, memory_format and threads of a run that is new, decided before.
        begun: is told the run's id once run and folder know of each other.
        may_differ: recipe fields that may be others by now than those the run was begun with. It
            goes on with those.
    """

    parent: str
    key: str
    tags: Mapping[str, object]
    plan: Mapping[str, Any]
    begun: Callable[[str], None]
    may_differ: Collection[str] = ()

    def all_tags(self) -> dict[str, object]:
        """The tags, with the one that makes it a child."""
        return {**self.tags, "mlflow.parentRunId": self.parent}


def found_or_begun(
    store: Store,
    recipe: Recipe,
    plan: DevicePlan,
    begun: RunFolder | None,
    facts: RunFacts | None,
    experiment: str,
    run_name: str,
    runs_dir: Path,
    child: Child | None = None,
) -> tuple[RunFolder, RunFacts, str | None]:
    """The run's folder and facts, and its id where it had to be made in the store.

    The folder learns the key before the run is made and the id after, so that a kill between the
    two leaves no second run.

    Args:
        store: where the run is, or is made.
        recipe: what is to be trained.
        plan: on what, and how.
        begun: the folder that was named, if one was.
        facts: what it knows of a run.
        experiment: for a run that has to be made.
        run_name: likewise.
        runs_dir: its folder goes in here where none was named.
        child: of another run; None where the run is one of its own, or that of `mlflow run`.

    Raises:
        TrackingError: the store failed.
        DiskError: the folder cannot be written to; a run that was just made is closed.
    """
    if begun is not None and facts is not None and facts.run_id is not None:
        return begun, facts, None
    if facts is None:
        key = uuid.uuid4().hex if child is None else child.key
        facts = RunFacts(key, None, store.shown_uri, experiment, plan.decided(), machine(plan))
        if begun is not None:
            _note(begun, facts, recipe)
    found, continued = find_or_make(
        store,
        facts.experiment,
        run_name,
        run_id=None,
        follow_project=child is None,
        key=facts.key,
    )
    facts = replace(facts, run_id=found.info.run_id)
    folder = begun or RunFolder(runs_dir / found.info.run_id)
    made = None if continued else str(facts.run_id)
    with closing_if_left(store, made, folder):
        _note(folder, facts, recipe)
    return folder, facts, made


def _note(folder: RunFolder, facts: RunFacts, recipe: Recipe) -> None:
    files.make_folder(folder.path)
    files.write_text(folder.recipe, recipe.to_yaml())
    folder.write_facts(facts)
