"""Checks of a training before its first step and at its phase changes, in seconds.

Each is a `Finding`. Nothing is altered: whatever moves, moves on a copy, and torch's random
generators are put back. What the loop does is watched on two tiny epochs of the real loop
(`_doctor_trial`), so that a loop that goes wrong is caught as well as a recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.data.findings import Finding, Level, failed, passed, warned
from histo_mlflow.device import DevicePlan
from histo_mlflow.models.build import Classifier
from histo_mlflow.models.weights import WeightsFacts
from histo_mlflow.training import _doctor_judge as judge
from histo_mlflow.training import _doctor_losses as losses
from histo_mlflow.training import _doctor_model as of_model
from histo_mlflow.training import _doctor_phases as phases
from histo_mlflow.training._doctor_trial import run_trial, untouched_randomness
from histo_mlflow.training.state import FitSettings, LoopState
from histo_mlflow.training.step import LossFunction

DoctorLevel = Literal["quick", "full"]
Images = Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]

GREY_LEVELS: Final = 2.0
"""Mean distance of red and blue below which the order of the channels cannot be told."""
OTHER_LEVELS: Final = 16.0
"""Mean distance above which packed pixels are not those of their files; resizing moves a mean by
one or two levels."""


def check_before(
    state: LoopState,
    train: PackedDataset,
    settings: FitSettings,
    *,
    loss_function: LossFunction,
    plan: DevicePlan,
    classes: Sequence[str],
    level: DoctorLevel = "quick",
) -> list[Finding]:
    """Everything that can be told before the first step.

    Args:
        state: of a run that is about to begin or to go on; is not altered.
        train: the training images.
        settings: the numbers of the run.
        loss_function: what is minimised.
        plan: device, precision, memory format.
        classes: names of the classes, in the order of the labels.
        level: "full" also learns one batch by heart.

    Returns:
        The findings, always the same checks in the same order; fewer when classes or optimiser
        are so wrong that no step can be tried.
    """
    findings = [
        losses.labels(train, classes, state.model.spec.classes),
        of_model.coverage(state.model, state.optimiser),
        of_model.head_is_nonlinear(state.model),
        judge.pinned(plan.pin_memory, plan.device),
        judge.corners(settings.policy, state.model.spec.image_px, settings.seed),
    ]
    if len(train) < 2:
        return [*findings, failed("training-images", f"2 or more are needed, got {len(train)}")]
    if findings[0].level is Level.FAIL:
        return findings
    with untouched_randomness(plan):
        arguments = (state, train, settings)
        findings.append(losses.first_loss(*arguments, loss_function=loss_function, plan=plan))
        trial = run_trial(*arguments, loss_function=loss_function, plan=plan)
        if trial.problem is not None:
            return [*findings, failed("trial-steps", f"two trial steps failed: {trial.problem}")]
        findings += [
            phases.frozen_phase(trial, settings.frozen_epochs),
            phases.full_phase(trial, state.model),
            phases.training_mode(trial, state.model, settings.frozen_epochs),
            phases.average(trial),
            phases.normalisation(trial, state.model),
            judge.augmentation(trial, settings.policy, settings.seed),
            judge.order(trial, train, settings),
            phases.modes(trial) or losses.repeatable(*arguments, plan=plan),
            judge.monitor(trial, state.stopping),
        ]
        if level == "full":
            findings.append(losses.overfits(*arguments, loss_function=loss_function, plan=plan))
    return findings


def check_phase(state: LoopState, *, frozen: bool) -> list[Finding]:
    """What must hold at the beginning of a phase, before its first step; reads only.

    Args:
        state: right after the phase was entered.
        frozen: whether the head alone trains now.
    """
    return of_model.phase(state, frozen=frozen)


def check_weights(model: Classifier, fresh: Classifier, asked: str, facts: WeightsFacts) -> Finding:
    """Weights that were asked for are there, whole.

    Args:
        model: the model.
        fresh: the same spec and seed, without weights.
        asked: "none", "imagenet" or a file.
        facts: what loading said.
    """
    return of_model.weights(model, fresh, asked, facts)


def check_colours(packed: Images, source: Images) -> Finding:
    """The packed pixels are those of their files, red first.

    Only means of channels are compared, so both sides may have gone through different resizing.

    Args:
        packed: uint8 (px, px, 3) each, rows of the pack.
        source: uint8 (H, W, 3) RGB each, the same images and section, decoded on another way.

    Returns:
        FAIL where another order of the channels fits clearly better, or none fits; WARN where grey
        images, or none at all, leave it open.
    """
    name = "colours"
    if not len(packed):
        return warned(name, "no image could be compared with its file")
    ours, theirs = (
        np.stack([np.asarray(image, np.float64).mean(axis=(0, 1)) for image in images])
        for images in (packed, source)
    )
    distance = {
        order: float(np.abs(ours[:, order] - theirs).mean()) for order in permutations(range(3))
    }
    best = min(distance, key=lambda order: distance[order])
    straight = distance[(0, 1, 2)]
    n = len(ours)
    if distance[best] > OTHER_LEVELS:
        return failed(
            name,
            f"the packed pixels of {n} images are not those of their files: the mean colours lie "
            f"{straight:.0f} of 255 levels apart; delete the pack from the cache folder",
        )
    if float(np.abs(theirs[:, 0] - theirs[:, 2]).mean()) < GREY_LEVELS:
        return warned(name, f"{n} images are grey: whether red comes first cannot be told")
    if straight > 2 * distance[best] + 1:
        as_packed = "".join("RGB"[best.index(channel)] for channel in range(3))
        return failed(
            name,
            f"the packed pixels are {as_packed}, not RGB: in that order {n} images lie "
            f"{distance[best]:.1f} levels from their files, as they are {straight:.1f}",
        )
    return passed(name, f"red first: {n} images lie {straight:.1f} levels from their files")
