"""Numbers of a few forward passes and steps on a copy: first loss, repeatability, overfitting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.data.findings import Finding, failed, passed, warned
from histo_mlflow.device import DevicePlan
from histo_mlflow.models.losses import loss_function as plain_loss
from histo_mlflow.training._doctor_trial import (
    TRIAL_LR,
    changed,
    copied,
    exact,
    moded_modules,
    sample,
    snapshot,
)
from histo_mlflow.training.judging import predict_logits
from histo_mlflow.training.state import FitSettings, LoopState
from histo_mlflow.training.step import LossFunction, train_step

FIRST_IMAGES = 16
FIRST_WARN = 0.5
"""Nats above ln K. Logits of variance v cost about v / 2; a fresh head gives v of 0.1 to 0.6."""
FIRST_FAIL = 2.0
"""Nats above ln K: logits of standard deviation 2, as pixels that are not normalised give them."""
OVERFIT_STEPS = 30
OVERFIT_WARMUP = 5
OVERFIT_RATES = (TRIAL_LR, 1e-2, 1e-1)
"""Tried where the recipe's own learns nothing: the first suits Adam, the others plain SGD."""
OVERFIT_PASS = 0.5
OVERFIT_FAIL = 0.95
"""Shares of the first loss that are left after `OVERFIT_STEPS`."""


def labels(train: PackedDataset, classes: Sequence[str], model_classes: Sequence[str]) -> Finding:
    """Labels, classes and logits speak of the same classes in the same order."""
    if tuple(classes) != tuple(model_classes):
        return failed(
            "classes",
            f"the model's classes are {', '.join(model_classes)}, those of the data "
            f"{', '.join(classes)}",
        )
    counts = np.bincount(train.labels[train.labels >= 0], minlength=len(classes))
    if len(counts) > len(classes) or train.labels.min(initial=0) < 0:
        return failed(
            "classes",
            f"labels from 0 to {len(classes) - 1} were expected, got {train.labels.min()} to "
            f"{train.labels.max()}",
        )
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        return failed("classes", "there is no training image of some classes", absent)
    return passed("classes", f"{len(classes)}, each with {counts.min():,} training images or more")


def first_loss(
    state: LoopState,
    train: PackedDataset,
    settings: FitSettings,
    *,
    loss_function: LossFunction,
    plan: DevicePlan,
) -> Finding:
    """The plain loss of a fresh head is near ln K, what equal probabilities give.

    The images are a few of each class, so that a frequent class neither hides nor feigns anything,
    and the model is in training mode, since a fresh batch norm has no statistics yet. A fresh head
    cannot be much better either, but a few images are easily right by chance: that is a warning.
    """
    name, spec = "initial-loss", state.model.spec
    if state.epoch:
        return passed(name, f"not looked at: {state.epoch} epochs are behind")
    twin = copied(state).model.train()
    few = sample(train, FIRST_IMAGES, settings.seed)
    batch = few.gather(*(np.arange(len(few), dtype=np.int64),) * 2)
    images = batch.images.to(plan.device).contiguous(memory_format=plan.memory_format)
    targets = batch.labels.to(plan.device)
    with torch.no_grad():
        logits = twin(images).float()
        loss = float(plain_loss(spec.output)(logits, targets))
        objective = float(loss_function(logits, targets))
    expected = math.log(len(spec.classes))
    told = f"{loss:.3f} on {len(few)} images, ln {len(spec.classes)} = {expected:.3f}"
    if not (math.isfinite(loss) and math.isfinite(objective)):
        return failed(name, f"{told}; the minimised loss is {objective}")
    if loss - expected > FIRST_FAIL:
        return failed(
            name,
            f"{told}: a fresh head is far surer than it can be; look at the normalisation, the "
            "head's first weights and the labels",
        )
    if loss - expected > FIRST_WARN:
        return warned(name, f"{told}: higher than a fresh head usually gives")
    if loss < expected / 4:
        return warned(name, f"{told}: better than a fresh head can be; was it trained before?")
    return passed(name, told)


def repeatable(
    state: LoopState, train: PackedDataset, settings: FitSettings, *, plan: DevicePlan
) -> Finding:
    """Judging twice gives the same, one at a time too, and leaves the model as it was."""
    name = "evaluation-mode"
    twin = copied(state).judged_model.train()
    few, plan = sample(train, FIRST_IMAGES // 2, settings.seed), exact(plan)
    before = snapshot(twin)
    first, second = (predict_logits(twin, few, batch_size=len(few), plan=plan) for _ in range(2))
    alone = predict_logits(twin, few, batch_size=max(1, len(few) // 2), plan=plan)
    moved = changed(before, snapshot(twin))
    if moved:
        return failed(name, "judging changed the model: batch norms go on learning", moved)
    if not np.array_equal(first, second, equal_nan=True):
        return failed(name, "judging the same images twice gave two answers: dropout is active")
    # Another batch size takes other kernels: the last digits differ.
    if not np.allclose(first, alone, rtol=1e-2, atol=1e-2, equal_nan=True):
        return failed(
            name, "an image's answer hangs on its neighbours in the batch: statistics of the batch"
        )
    if not twin.training:
        return failed(name, "judging left the model in eval mode: training would go on in it")
    return passed(name, "judging repeats itself, image by image, and leaves no trace")


def overfits(
    state: LoopState,
    train: PackedDataset,
    settings: FitSettings,
    *,
    loss_function: LossFunction,
    plan: DevicePlan,
) -> Finding:
    """A copy learns one batch by heart, with the run's own optimiser at its full rates.

    Where it does not, loss and gradients are tried apart from the recipe's numbers: with other
    rates, without clipping and dropout. What is learnt then is the recipe's to say, and a warning.
    """
    name, arguments = "overfit", (state, train, settings)
    losses = _by_heart(*arguments, loss_function=loss_function, plan=plan, rate=None)
    told = (
        f"{OVERFIT_STEPS} steps on {min(FIRST_IMAGES, len(train))} images: "
        f"loss {losses[0]:.3f} to {losses[-1]:.3f}"
    )
    left = _left(losses)
    if not left < OVERFIT_FAIL:
        for rate in OVERFIT_RATES:
            tried = _by_heart(*arguments, loss_function=loss_function, plan=plan, rate=rate)
            if _left(tried) < OVERFIT_FAIL:
                return warned(
                    name,
                    f"{told} at the recipe's rates, but {tried[-1]:.3f} at lr={rate:g} without "
                    "clipping and dropout: look at lr, clip_norm and dropout",
                )
        return failed(name, f"{told}: not even one batch can be learnt by heart, at any rate")
    if left > OVERFIT_PASS:
        return warned(name, f"{told}: slow; lr may be too low, or too high")
    return passed(name, told)


def _left(losses: Sequence[float]) -> float:
    """Share of the first loss that is left; NaN where it stopped being a number."""
    return float(np.mean(losses[-3:])) / losses[0]


def _by_heart(
    state: LoopState,
    train: PackedDataset,
    settings: FitSettings,
    *,
    loss_function: LossFunction,
    plan: DevicePlan,
    rate: float | None,
) -> list[float]:
    """Plain losses of a copy that learns one batch.

    Args:
        state: see `overfits`; so are the next four.
        train: see there.
        settings: see there.
        loss_function: see there.
        plan: see there.
        rate: of all groups, without clipping and dropout; None for what the recipe says.
    """
    twin = copied(state)
    few = sample(train, FIRST_IMAGES, settings.seed)
    batch = few.gather(*(np.arange(len(few), dtype=np.int64),) * 2)
    images = batch.images.to(plan.device).contiguous(memory_format=plan.memory_format)
    targets = batch.labels.to(plan.device)
    twin.model.train()
    if rate is not None:
        for module in moded_modules(twin.model).values():
            module.train(isinstance(module, _BatchNorm))
    plain, losses = plain_loss(twin.model.spec.output), []
    for step in range(OVERFIT_STEPS):
        for group in twin.optimiser.param_groups:
            full = group.get("initial_lr", group["lr"]) if rate is None else rate
            group["lr"] = full * min(1.0, (step + 1) / OVERFIT_WARMUP)
        result = train_step(
            twin.model,
            loss_function,
            twin.optimiser,
            images,
            targets,
            autocast=plan.autocast,
            scaler=twin.scaler,
            share=1.0,
            update=True,
            clip_norm=settings.clip_norm if rate is None else None,
        )
        losses.append(float(plain(result.logits, targets)))
    return losses
