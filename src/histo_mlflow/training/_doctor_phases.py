"""What a watched trial shows of the model: phases, modes, its average, what its backbone gets."""

from __future__ import annotations

import torch

from histo_mlflow.data.findings import Finding, counted, failed, passed, warned
from histo_mlflow.models.build import Classifier
from histo_mlflow.models.groups import stages
from histo_mlflow.training._doctor_trial import Trial, changed, moded_modules

MODED = "batch norms and dropouts"
NEAR = 0.05
"""Of values around -2 to 2: far above any rounding, far below what another way of scaling gives."""


def frozen_phase(trial: Trial, frozen_epochs: int) -> Finding:
    """A frozen epoch leaves every weight and statistic of the backbone, and moves the head."""
    name = "frozen-phase"
    if not frozen_epochs:
        return passed(name, "no frozen epochs are asked for")
    moved = changed(trial.states[0], trial.states[1])
    backbone = [key for key in moved if not key.startswith("head.")]
    if backbone:
        return failed(
            name,
            f"frozen_epochs={frozen_epochs} says that the backbone stands still, but a trial step "
            f"moved {counted(len(backbone), 'of its tensors', 'of its tensors')}",
            backbone,
        )
    if not moved:
        return failed(name, "a trial step with a frozen backbone did not move the head either")
    return passed(name, f"a trial step moved the head ({counted(len(moved), 'tensor')}) alone")


def full_phase(trial: Trial, model: Classifier) -> Finding:
    """A step of the whole model moves every stage."""
    moved = set(changed(trial.states[-2], trial.states[-1]))
    by_stage = {stage: {key for key, _ in named} for stage, named in stages(model).items()}
    still = [stage for stage, keys in by_stage.items() if not keys & moved]
    if still:
        return failed(
            "full-phase",
            f"a trial step of the whole model left {len(still)} of {len(by_stage)} stages as they "
            "were: they would keep their first weights for ever",
            still,
        )
    return passed("full-phase", f"a trial step moved all {len(by_stage)} stages")


def modes(trial: Trial) -> Finding | None:
    """A finding where a batch norm or a dropout was in training mode during an evaluation."""
    judged = [shown for epoch in (0, 1) for shown in trial.met("val", epoch)]
    active = sorted({name for shown in judged for name in shown.active})
    if not active:
        return None
    return failed(
        "evaluation-mode",
        f"{counted(len(active), 'batch norm or dropout', 'batch norms and dropouts')} stayed in "
        "training mode while the model was judged: eval() was never called",
        active,
    )


def training_mode(trial: Trial, model: Classifier, frozen_epochs: int) -> Finding:
    """Every batch norm and dropout of what trains is in training mode in every step."""
    name, known = "training-mode", list(moded_modules(model))
    wrong = []
    for shown in trial.met("train", 0) + trial.met("train", 1):
        head_alone = shown.epoch < min(frozen_epochs, 1)
        wanted = [key for key in known if not head_alone or key.startswith("head.")]
        wrong += [key for key in wanted if key not in shown.active]
    if wrong:
        still = sorted(set(wrong))
        return failed(
            name,
            f"{len(still)} of {counted(len(known), 'batch norm or dropout', MODED)} stayed in "
            "evaluation mode while the model was trained: train() was never called",
            still,
        )
    return passed(name, f"{counted(len(known), 'batch norm or dropout', MODED)}, all in their turn")


def average(trial: Trial) -> Finding:
    """The averaged model follows the one that trains."""
    name = "average"
    if not trial.averages:
        return passed(name, "none is asked for")
    learnt = {key for key, tensor in trial.states[0].items() if tensor.is_floating_point()}
    trained = learnt & set(changed(trial.states[0], trial.states[-1]))
    followed = learnt & set(changed(*trial.averages))
    if trained and not followed:
        return failed(
            name,
            "two trial steps moved the model and left its average as it was: what is judged and "
            "kept would never learn",
        )
    return passed(name, f"two trial steps moved {len(followed)} of its tensors")


def normalisation(trial: Trial, model: Classifier) -> Finding:
    """The backbone receives the pixels as the model's spec normalises them, once, red first.

    Compared with a computation of its own, so that neither dark nor white images matter.
    """
    name, spec = "normalisation", model.spec
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    for shown in trial.shown:
        if shown.received is None or shown.received.shape != shown.images.shape:
            return warned(name, "what the backbone receives could not be looked at")
        expected = (shown.images.float() / 255 - mean) / std
        if torch.allclose(shown.received, expected, rtol=0.0, atol=NEAR):
            continue
        got, due = (
            f"{float(images.min()):.2f} to {float(images.max()):.2f}"
            for images in (shown.received, expected)
        )
        swapped = (shown.images.flip(1).float() / 255 - mean) / std
        if torch.allclose(shown.received, swapped, rtol=0.0, atol=NEAR):
            return failed(name, "red and blue change places on their way to the backbone")
        return failed(
            name,
            f"the backbone receives values from {got} where the normalisation of its weights gives "
            f"{due}: it was left out, done twice or done with other numbers",
        )
    return passed(name, "the backbone receives what the mean and deviation of its spec give")
