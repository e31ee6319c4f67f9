"""The training loop: yields one finished record per epoch and knows nothing of MLflow.

All state that the loop carries from step to step is in one `LoopState`, so that a training can be
left after any step and go on from there, bit for bit. What a step sees is a function of (seed,
epoch, step): the order of the images, what augmentation does to each and which units dropout drops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from histo_mlflow.data.batches import Batch, Indices, PackedDataset, batches, epoch_order
from histo_mlflow.device import DevicePlan
from histo_mlflow.models.build import Classifier
from histo_mlflow.models.groups import freeze_backbone, unfreeze_backbone
from histo_mlflow.randomness import derive
from histo_mlflow.training.judging import predict_logits
from histo_mlflow.training.memory import micro_batches
from histo_mlflow.training.numbers import LOOK_EVERY, NumberWatch, expect_finite
from histo_mlflow.training.schedule import apply, multiplier
from histo_mlflow.training.state import EpochRecord, FitSettings, LoopState, Progress, StepRecord
from histo_mlflow.training.step import LossFunction, StepResult, train_step
from histo_mlflow.vision.augment import augment

Measure = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]
"""(targets int64 (n,), logits float64 (n, K) or (n, 1)) -> metrics by name, defined ones only."""

Whole = Callable[[], AbstractContextManager[object]]
"""A context that must not be left half-way: whoever ends the training waits for its end."""


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
    on_phase: Callable[[LoopState, str], None] = lambda state, phase: None,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    whole: Whole = nullcontext,
) -> Iterator[EpochRecord]:
    """Train until the epochs are over or patience is, from wherever `state` stands.

    Args:
        state: is moved on in place; a record is yielded when it stands at the end of an epoch.
            Between two steps, and while validation runs, it can be saved and gone on from.
        train: the only images that move weights.
        val: chooses the best epoch. No other split can be handed in.
        settings: see `FitSettings`.
        loss_function: what is minimised.
        measure: metrics of one split; its names get `train/` and `val/` put before them.
        plan: device, precision, memory format.
        on_step: is shown each step; must not wait for the device at every call.
        on_phase: is shown the state when a phase ("frozen" or "full") has been entered, before
            its first step.
        on_epoch: is shown the record at the end of an epoch, before anything can interrupt.
        whole: entered around every change of the state.

    Yields:
        One `EpochRecord` per epoch. `train/loss` and `val/loss` are the same quantity, plain mean
        cross-entropy; the minimised one, with weights and smoothing, is `train/objective`. Training
        metrics come from the augmented images as the model met them, during the epoch.

    Raises:
        NotANumberError: the loss, a gradient, a weight or a logit of the validation stopped being a
            number.
    """
    entered = None
    while state.epoch < settings.epochs and not state.stopping.exhausted:
        phase = _enter_phase(state.model, frozen=state.epoch < settings.frozen_epochs)
        if phase != entered:
            on_phase(state, phase)
            entered = phase
        trained = _train_epoch(
            state, train, settings, loss_function, measure, plan, on_step=on_step, whole=whole
        )
        judging = time.perf_counter()
        logits = predict_logits(
            state.judged_model, val, batch_size=state.eval_batch(settings), plan=plan
        )
        expect_finite(logits, state.epoch, val)
        judged = {f"val/{name}": value for name, value in measure(val.labels, logits).items()}
        with whole():
            seconds = state.progress.seconds + time.perf_counter() - judging
            record = _end_epoch(state, phase, seconds, trained | judged)
            on_epoch(record)
        yield record


def _end_epoch(
    state: LoopState, phase: str, seconds: float, metrics: Mapping[str, float]
) -> EpochRecord:
    epoch = state.epoch + 1
    improved = state.stopping.update(epoch, metrics.get(state.stopping.monitor))
    state.history.append({"epoch": epoch, "phase": phase, "seconds": seconds, **metrics})
    state.epoch, state.progress = epoch, Progress()
    return EpochRecord(epoch, phase, seconds, metrics, improved, state.stopping.exhausted)


def _train_epoch(
    state: LoopState,
    train: PackedDataset,
    settings: FitSettings,
    loss_function: LossFunction,
    measure: Measure,
    plan: DevicePlan,
    *,
    on_step: Callable[[StepRecord], None],
    whole: Whole,
) -> dict[str, float]:
    epoch, progress = state.epoch, state.progress
    order = _order(train, settings, epoch)
    steps = -(-len(order) // settings.batch_size)
    rates = _Rates(settings, steps)
    watch = NumberWatch(epoch, plan.device == "cpu", state.scaler.is_enabled(), train.ids)
    feed = batches(
        train,
        order,
        settings.batch_size,
        drop_last=False,
        device=plan.device,
        start=progress.steps,
    )
    for step in range(progress.steps, steps):
        started = time.perf_counter()
        batch = _augmented(next(feed), settings, epoch, plan)
        waited = time.perf_counter() - started
        with whole():
            apply(state.optimiser, rates.at(epoch, step))
            torch.manual_seed(derive(settings.seed, "step", epoch, step))
            loss = _step(state, batch, step, len(order), settings, loss_function, plan, watch)
            progress.steps = step + 1
            progress.waited += waited
            progress.seconds += time.perf_counter() - started
        if step % LOOK_EVERY == 0 or step + 1 == steps:
            watch.look()
        on_step(
            StepRecord(epoch + 1, step + 1, steps, len(batch.labels), loss, batch.index, watch.look)
        )
    return _epoch_metrics(state, train.labels[order], measure, rates.at(epoch, steps - 1))


def _step(
    state: LoopState,
    batch: Batch,
    step: int,
    images: int,
    settings: FitSettings,
    loss_function: LossFunction,
    plan: DevicePlan,
    watch: NumberWatch,
) -> Tensor:
    """One batch, in portions where it does not fit at once; its mean loss."""
    window = settings.batch_size * settings.accumulate
    begun = step // settings.accumulate * window
    in_window = min(begun + window, images) - begun
    last = (step + 1) * settings.batch_size >= images
    ends_update = last or (step + 1) % settings.accumulate == 0
    portions = micro_batches(len(batch.labels), state.micro_batch)
    results: list[StepResult] = []
    for start, stop in portions:
        result = train_step(
            state.model,
            loss_function,
            state.optimiser,
            batch.images[start:stop],
            batch.labels[start:stop],
            autocast=plan.autocast,
            scaler=state.scaler,
            share=(stop - start) / in_window,
            update=ends_update and stop == len(batch.labels),
            clip_norm=settings.clip_norm,
            judge=partial(watch.before_update, step, batch.index[start:stop]),
        )
        if result.weight_norm is not None:
            watch.expect(step, "the norm of the weights", result.weight_norm, batch.index)
        results.append(result)
    if state.ema is not None and ends_update:
        state.ema.update(state.model)
    state.progress.logits.extend(result.logits for result in results)
    if len(results) == 1:
        state.progress.losses.append(results[0].loss * len(batch.labels))
        return results[0].loss
    losses = [r.loss * (stop - start) for r, (start, stop) in zip(results, portions, strict=True)]
    state.progress.losses.append(torch.stack(losses).sum())
    return state.progress.losses[-1] / len(batch.labels)


def _order(train: PackedDataset, settings: FitSettings, epoch: int) -> Indices:
    order = epoch_order(
        len(train), settings.seed, epoch, sampling=settings.sampling, labels=train.labels
    )
    if len(order) % settings.batch_size == 1 and len(order) > 1:
        return order[:-1]  # BatchNorm knows no variance of a single image
    return order


@dataclass(frozen=True)
class _Rates:
    """What the learning rates are multiplied by, from the place of a batch."""

    settings: FitSettings
    steps: int

    def at(self, epoch: int, step: int) -> float:
        updates = -(-self.steps // self.settings.accumulate)
        return multiplier(
            epoch * updates + step // self.settings.accumulate,
            total_steps=self.settings.epochs * updates,
            steps_per_epoch=updates,
            schedule=self.settings.schedule,
            warmup_epochs=self.settings.warmup_epochs,
        )


def _epoch_metrics(
    state: LoopState, targets: Indices, measure: Measure, factor: float
) -> dict[str, float]:
    progress = state.progress
    # Summed on the CPU: MPS has no float64.
    objective = float(torch.stack(progress.losses).cpu().double().sum()) / len(targets)
    logits = torch.cat(progress.logits).cpu().double().numpy()
    metrics = {f"train/{name}": value for name, value in measure(targets, logits).items()}
    metrics |= {
        "train/objective": objective,
        "lr": apply(state.optimiser, factor),
        "images_per_second": len(targets) / progress.seconds,
        "train_seconds": progress.seconds,
        "data_wait_share": progress.waited / progress.seconds,
    }
    return metrics if state.micro_batch is None else {**metrics, "micro_batch": state.micro_batch}


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
