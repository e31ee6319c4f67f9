"""The training loop: yields one finished record per epoch and knows nothing of MLflow.

All state that the loop carries from step to step is in one `LoopState`. What a step sees is a
function of (seed, epoch, step): the order of the images, what augmentation does to each and which
units dropout drops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from histo_mlflow.data.batches import Batch, PackedDataset, Sampling, batches, epoch_order
from histo_mlflow.device import DevicePlan
from histo_mlflow.errors import TrainingError
from histo_mlflow.models.build import Classifier
from histo_mlflow.models.ema import Ema
from histo_mlflow.models.groups import freeze_backbone, unfreeze_backbone
from histo_mlflow.randomness import derive
from histo_mlflow.training.judging import predict_logits
from histo_mlflow.training.schedule import apply, multiplier
from histo_mlflow.training.step import LossFunction, train_step
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import Policy, augment

Measure = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]
"""(targets int64 (n,), logits float64 (n, K) or (n, 1)) -> metrics by name, defined ones only."""

CHECK_EVERY = 25
"""Steps between two looks at the loss; a look waits for the device."""


@dataclass(frozen=True)
class FitSettings:
    """The numbers of a training run; their meaning is in the recipe's descriptions."""

    epochs: int
    batch_size: int
    eval_batch_size: int
    seed: int
    sampling: Sampling
    policy: Policy
    schedule: str
    warmup_epochs: float
    frozen_epochs: int
    clip_norm: float | None
    accumulate: int


@dataclass
class LoopState:
    """Everything the loop carries on, and so everything a checkpoint has to hold."""

    model: Classifier
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    stopping: Stopping
    ema: Ema | None = None
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def judged_model(self) -> Classifier:
        """The weights that are evaluated and kept: the average where there is one."""
        return self.model if self.ema is None else self.ema.model


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch was, for whoever watches."""

    epoch: int
    phase: str
    seconds: float
    metrics: Mapping[str, float]
    improved: bool
    exhausted: bool


@dataclass(frozen=True)
class StepRecord:
    """Where the epoch stands; `loss` stays on the device until somebody reads it."""

    epoch: int
    step: int
    steps: int
    images: int
    loss: Tensor


def fit(
    state: LoopState,
    train: PackedDataset,
    val: PackedDataset,
    settings: FitSettings,
    *,
    loss_function: LossFunction,
    measure: Measure,
    plan: DevicePlan,
    on_step: Callable[[StepRecord], None] = lambda record: None,
) -> Iterator[EpochRecord]:
    """Train until the epochs are over or patience is.

    Args:
        state: is moved on in place; a record is yielded when it stands at the end of an epoch.
        train: the only images that move weights.
        val: chooses the best epoch. No other split can be handed in.
        settings: see `FitSettings`.
        loss_function: what is minimised.
        measure: metrics of one split; its names get `train/` and `val/` put before them.
        plan: device, precision, memory format.
        on_step: is shown each step; must not wait for the device at every call.

    Yields:
        One `EpochRecord` per epoch. `train/loss` and `val/loss` are the same quantity, plain mean
        cross-entropy; the minimised one, with weights and smoothing, is `train/objective`. Training
        metrics come from the augmented images as the model met them, during the epoch.

    Raises:
        TrainingError: the loss stopped being a number.
    """
    for epoch in range(state.epoch, settings.epochs):
        started = time.perf_counter()
        phase = _enter_phase(state.model, frozen=epoch < settings.frozen_epochs)
        metrics = _train_epoch(state, train, settings, epoch, loss_function, measure, plan, on_step)
        logits = predict_logits(
            state.judged_model, val, batch_size=settings.eval_batch_size, plan=plan
        )
        metrics |= {f"val/{name}": value for name, value in measure(val.labels, logits).items()}
        improved = state.stopping.update(epoch + 1, metrics.get(state.stopping.monitor))
        seconds = time.perf_counter() - started
        state.epoch = epoch + 1
        state.history.append({"epoch": epoch + 1, "phase": phase, "seconds": seconds, **metrics})
        exhausted = state.stopping.exhausted
        yield EpochRecord(epoch + 1, phase, seconds, metrics, improved, exhausted)
        if exhausted:
            return


def _train_epoch(
    state: LoopState,
    train: PackedDataset,
    settings: FitSettings,
    epoch: int,
    loss_function: LossFunction,
    measure: Measure,
    plan: DevicePlan,
    on_step: Callable[[StepRecord], None],
) -> dict[str, float]:
    order = epoch_order(
        len(train), settings.seed, epoch, sampling=settings.sampling, labels=train.labels
    )
    batch_size = settings.batch_size
    if len(order) % batch_size == 1 and len(order) > 1:
        order = order[:-1]  # BatchNorm knows no variance of a single image
    steps = -(-len(order) // batch_size)
    window = batch_size * settings.accumulate
    updates = -(-len(order) // window)
    losses: list[Tensor] = []
    seen: list[tuple[np.ndarray, Tensor]] = []
    rate, waited, started = 0.0, 0.0, time.perf_counter()
    feed = batches(train, order, batch_size, drop_last=False, device=plan.device)
    for step in range(steps):
        asked = time.perf_counter()
        batch = _augmented(next(feed), settings, epoch, plan)
        waited += time.perf_counter() - asked
        begun = step // settings.accumulate * window
        rate = apply(
            state.optimiser,
            multiplier(
                epoch * updates + step // settings.accumulate,
                total_steps=settings.epochs * updates,
                steps_per_epoch=updates,
                schedule=settings.schedule,
                warmup_epochs=settings.warmup_epochs,
            ),
        )
        torch.manual_seed(derive(settings.seed, "step", epoch, step))
        ends_update = (step + 1) % settings.accumulate == 0 or step + 1 == steps
        loss, logits = train_step(
            state.model,
            loss_function,
            state.optimiser,
            batch.images,
            batch.labels,
            autocast=plan.autocast,
            scaler=state.scaler,
            share=len(batch.labels) / (min(begun + window, len(order)) - begun),
            update=ends_update,
            clip_norm=settings.clip_norm,
        )
        if state.ema is not None and ends_update:
            state.ema.update(state.model)
        losses.append(loss * len(batch.labels))
        seen.append((batch.index, logits))
        if step % CHECK_EVERY == 0 or step + 1 == steps:
            _expect_number(float(loss), epoch, step, rate)
        on_step(StepRecord(epoch + 1, step + 1, steps, len(batch.labels), loss))
    # Summed on the CPU: MPS has no float64.
    mean_objective = float(torch.stack(losses).cpu().double().sum()) / len(order)
    seconds = time.perf_counter() - started
    targets = train.labels[np.concatenate([index for index, _ in seen])]
    logits_seen = torch.cat([logits for _, logits in seen]).cpu().double().numpy()
    trained = {f"train/{name}": v for name, v in measure(targets, logits_seen).items()}
    return trained | {
        "train/objective": mean_objective,
        "lr": rate,
        "images_per_second": len(order) / seconds,
        "train_seconds": seconds,
        "data_wait_share": waited / seconds,
    }


def _augmented(batch: Batch, settings: FitSettings, epoch: int, plan: DevicePlan) -> Batch:
    images = augment(batch.images, settings.policy, settings.seed, epoch, batch.positions)
    images = images.contiguous(memory_format=plan.memory_format)
    return Batch(images, batch.labels, batch.index, batch.positions)


def _enter_phase(model: Classifier, *, frozen: bool) -> str:
    if frozen:
        freeze_backbone(model)
    else:
        unfreeze_backbone(model)
    model.train()
    return "frozen" if frozen else "full"


def _expect_number(loss: float, epoch: int, step: int, rate: float) -> None:
    if not np.isfinite(loss):
        raise TrainingError(
            f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}, at a learning rate of "
            f"{rate:g}: lower lr, lengthen warmup_epochs or set clip_norm (1.0 is usual)"
        )
