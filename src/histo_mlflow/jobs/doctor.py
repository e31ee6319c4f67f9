"""The doctor: what can be told of machine, data and training before a run is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from histo_mlflow.data.findings import Finding, Level, counted, failed, passed
from histo_mlflow.errors import HistoMlflowError, TrainingError
from histo_mlflow.jobs import _doctor_data as of_data
from histo_mlflow.jobs import _doctor_machine as machine
from histo_mlflow.jobs.prepare import decode_rule
from histo_mlflow.jobs.ready import Ready, get_ready
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.build import Classifier, build
from histo_mlflow.models.losses import class_weights, loss_function
from histo_mlflow.randomness import derive
from histo_mlflow.recipe import Recipe
from histo_mlflow.training.doctor import DoctorLevel, check_before, check_weights
from histo_mlflow.training.step import LossFunction


def diagnose(
    recipe: Recipe,
    *,
    tracking_uri: str | None,
    runs_dir: str | Path = "runs",
    level: DoctorLevel = "quick",
    talk: Talk,
) -> list[Finding]:
    """Environment and training of a recipe, without a run.

    What keeps the training from being got ready is a finding like the others, and so is what the
    data set is warned of, so that all is told at once.
    """
    asked = recipe.machine
    findings = environment(
        tracking_uri,
        device=asked.device,
        precision=asked.precision,
        memory_format=asked.memory_format,
        threads=asked.threads,
        runs_dir=runs_dir,
    )
    of_data_set: list[Finding] = []
    try:
        ready = get_ready(recipe, talk=replace(talk, kept=of_data_set))
    except HistoMlflowError as error:
        return [*findings, *of_data_set, failed("ready", str(error))]
    examined = examine(ready, level=level)
    known = {finding.check for finding in examined}
    return [*findings, *(each for each in of_data_set if each.check not in known), *examined]


def environment(
    tracking_uri: str | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    memory_format: str = "auto",
    threads: int = 0,
    runs_dir: str | Path = "runs",
) -> list[Finding]:
    """Versions, device, store, disk and git; nothing is made.

    Args:
        tracking_uri: as `tracking.store.connect` takes it; a store that does not answer is a FAIL
            within 10 s.
        device: as `plan_device` takes it; so are the next three.
        precision: see there.
        memory_format: see there.
        threads: see there.
        runs_dir: where runs write their files.
    """
    return [
        machine.python(),
        machine.packages(),
        machine.device(device, precision, memory_format, threads),
        machine.store(tracking_uri),
        *machine.disks(Path(runs_dir)),
        machine.git(),
    ]


def examine(ready: Ready, *, level: DoctorLevel = "quick") -> list[Finding]:
    """Data, weights and training of a run that may begin; nothing is altered.

    Args:
        ready: from `get_ready`; a run that is to be continued may have epochs behind it.
        level: "quick", or "full", which also learns one batch by heart.
    """
    prepared, seed = ready.prepared, ready.settings.seed
    manifest, spec = prepared.manifest, ready.state.model.spec
    return [
        of_data.label_source(manifest),
        of_data.groups(manifest, prepared.splits),
        prepared.leak_groups(),
        of_data.datasets(prepared),
        of_data.file_order(manifest, prepared.splits),
        of_data.colours(prepared, decode_rule(ready.recipe), seed),
        _weights(ready, build(spec, derive(seed, "weights"))),
        _named_monitor(ready),
        *check_before(
            ready.state,
            prepared.dataset("train"),
            ready.settings,
            loss_function=_objective(ready),
            plan=ready.plan,
            classes=manifest.classes,
            level=level,
        ),
    ]


def assert_healthy(findings: Sequence[Finding]) -> None:
    """Refuse to go on where a check failed.

    Raises:
        TrainingError: names every failed check.
    """
    failures = [finding for finding in findings if finding.level is Level.FAIL]
    if failures:
        told = "; ".join(f"{finding.check}: {finding.message}" for finding in failures)
        raise TrainingError(
            f"the doctor found {counted(len(failures), 'mistake')}, so nothing was trained: {told} "
            "(`histo-mlflow doctor` lists all checks; --doctor off trains all the same)"
        )


def _weights(ready: Ready, fresh: Classifier) -> Finding:
    return check_weights(ready.state.model, fresh, ready.recipe.model.weights, ready.weights)


def _named_monitor(ready: Ready) -> Finding:
    """The metric that the loop follows is the one that the recipe names."""
    named, followed = ready.recipe.training.monitor, ready.state.stopping.monitor
    if named != followed:
        return failed(
            "named-monitor", f"the recipe says that {named} chooses, the loop follows {followed}"
        )
    return passed("named-monitor", f"{named}, as the recipe says")


def _objective(ready: Ready) -> LossFunction:
    """What the run minimises, with class weights from the training split."""
    optimisation = ready.recipe.optimisation
    counts = np.bincount(
        ready.prepared.dataset("train").labels, minlength=len(ready.prepared.manifest.classes)
    )
    weights = class_weights(counts.tolist(), optimisation.class_weights)
    return loss_function(
        ready.recipe.model.output,
        class_weights=None if weights is None else weights.to(ready.plan.device),
        label_smoothing=optimisation.label_smoothing,
    )
