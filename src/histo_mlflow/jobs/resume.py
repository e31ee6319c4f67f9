"""Which run a command goes on with, and whether it may."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from histo_mlflow.device import DevicePlan, device_facts
from histo_mlflow.errors import ResumeError
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.recipe import Recipe, load
from histo_mlflow.tracking.store import Store

ENDING = "histo.ending"


def run_folder(
    *,
    resume: str | None,
    run_dir: str | Path | None,
    runs_dir: str | Path,
    follow_project: bool = True,
) -> RunFolder | None:
    """The folder that was named, by itself, by a run's id or by `mlflow run`; None for a new one.

    Args:
        resume: id of a run.
        run_dir: a folder.
        runs_dir: where the folder of a run's id is.
        follow_project: whether the run of `mlflow run` is this one; not so for a child run.

    Raises:
        ResumeError: the run's files are not there, or two of the three name different runs.
    """
    project_run = os.environ.get("MLFLOW_RUN_ID") or None if follow_project else None
    wanted = resume or project_run
    if resume and project_run and resume != project_run:
        raise ResumeError(
            f"run {resume} is to be resumed, but `mlflow run` made run {project_run}: give it "
            f"`--run-id {resume}`, or run histo-mlflow train --resume {resume} by itself"
        )
    if run_dir is None and wanted is None:
        return None
    folder = RunFolder(Path(run_dir) if run_dir is not None else Path(runs_dir) / str(wanted))
    facts = folder.facts()
    if facts is None and run_dir is not None and (strange := folder.strangers()):
        raise ResumeError(
            f"{folder.path} holds no run, and other files ({', '.join(strange[:3])}): name a new "
            "or empty folder with --run-dir"
        )
    if resume and facts is None:
        raise ResumeError(
            f"run {resume} cannot be resumed: its files are expected in {folder.path}, where "
            "there is no run.json; name the place with --runs-dir or --run-dir"
        )
    if facts is not None and facts.run_id and wanted and facts.run_id != wanted:
        raise ResumeError(
            f"{folder.path} holds run {facts.run_id}, not {wanted}: give another run_dir, or "
            f"`mlflow run --run-id {facts.run_id}`"
        )
    return folder


def wanted_recipe(
    dataset: str | None,
    overrides: Mapping[str, str],
    *,
    resume: str | None,
    runs_dir: str | Path,
    run_dir: str | Path | None = None,
) -> Recipe:
    """The recipe of a command line; where it names a run to go on with and no recipe, the run's.

    Raises:
        ResumeError: the run's files are not there.
        RecipeError: the recipe is not valid.
    """
    folder = None
    if dataset is None and (resume is not None or run_dir is not None):
        folder = run_folder(resume=resume, run_dir=run_dir, runs_dir=runs_dir)
    if folder is None or folder.facts() is None:
        return load(dataset or "demo", overrides)
    begun_recipe(folder)
    return load(str(folder.recipe), overrides)


def begun_recipe(folder: RunFolder) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        ResumeError: there is none.
    """
    if not folder.recipe.is_file():
        raise ResumeError(f"the recipe of the run is missing: {folder.recipe}")
    return load(str(folder.recipe))


def refuse_other_recipe(
    folder: RunFolder, recipe: Recipe, *, may_differ: Collection[str] = ()
) -> None:
    """Compare a recipe with the one that a run was begun with.

    Args:
        folder: of the run.
        recipe: that is given now.
        may_differ: fields that are not compared.

    Raises:
        ResumeError: naming every difference.
    """
    begun, given = begun_recipe(folder).flatten(), recipe.flatten()
    different = [
        f"{name} was {_shown(begun.get(name))}, {_shown(given.get(name))} is given"
        for name in {**begun, **given}
        if begun.get(name) != given.get(name) and name not in may_differ
    ]
    if different:
        raise ResumeError(
            f"the run in {folder.path} was begun otherwise: {'; '.join(different)}. Give what it "
            "was begun with, or start a new run"
        )


def refuse_crossval(folder: RunFolder) -> None:
    """A cross-validation is no training, and is gone on with by its own command.

    Raises:
        ResumeError: it is one.
    """
    if folder.crossval.exists():
        raise ResumeError(
            f"{folder.path} holds a cross-validation: go on with it by histo-mlflow crossval "
            f"--run-dir {shlex.quote(str(folder.path))}"
        )


def refuse_trial(folder: RunFolder) -> None:
    """A trial belongs to its study, whose command goes on with it.

    Raises:
        ResumeError: it is one.
    """
    if folder.trial.exists():
        raise ResumeError(
            f"{folder.path} holds a trial of a study: go on with the study by histo-mlflow tune, "
            "or train the trial's recipe anew in a folder of its own: histo-mlflow train --dataset "
            f"{shlex.quote(str(folder.recipe))}"
        )


def refuse_begun_elsewhere(store: Store, folder: RunFolder) -> None:
    """A run of `mlflow run --run-id` that was begun, and whose files are not in the folder.

    Beginning it once more would put second points on its curves.

    Raises:
        ResumeError: it was begun.
        TrackingError: the run is not in the store, or the store failed.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return
    tags = store.ask(f"continuing run {run_id}", lambda: store.client.get_run(run_id)).data.tags
    if "histo.recipe" in tags:
        ended = f"has ended already, as {tags[ENDING]}" if ENDING in tags else "was begun before"
        raise ResumeError(
            f"run {run_id} (MLFLOW_RUN_ID) {ended}, and its files are not in {folder.path}: name "
            "the place with runs_dir or run_dir, or start a new run with MLFLOW_RUN_ID unset"
        )


def machine(plan: DevicePlan) -> dict[str, str]:
    """What the bits of a training depend on besides recipe, data and plan."""
    facts = device_facts(plan)
    return {name: str(facts[name]) for name in ("torch", "device_name", "cpu_capability")}


def other_machine(begun: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """What to say to a run that goes on elsewhere than it was begun; None where all is equal."""
    other = [
        f"{name} {begun.get(name, 'unknown')}, now {value}"
        for name, value in now.items()
        if begun.get(name) != value
    ]
    if not other:
        return None
    return (
        f"the run was begun with {'; '.join(other)}: it goes on, but not bit for bit as it would "
        "have there"
    )


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)
