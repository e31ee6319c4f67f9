"""One training step, whole, on one page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]


class Autocast(Protocol):
    """Gives the context in which the forward pass runs in the planned precision."""

    def __call__(self) -> AbstractContextManager[object]:
        """A context, new at every call."""


class StepResult(NamedTuple):
    """What a step leaves, all of it still on the device.

    Attributes:
        loss: scalar mean.
        logits: float32 (B, K) or (B, 1).
        gradient_norm: of all gradients together before clipping; None where no update was made.
        weight_norm: of all trained weights together after the update; None likewise.
    """

    loss: Tensor
    logits: Tensor
    gradient_norm: Tensor | None
    weight_norm: Tensor | None


Judge = Callable[[Tensor, Tensor, Tensor | None], None]
"""(loss, logits, gradient norm) are shown to it before weights move; raising keeps them unmoved."""


def train_step(
    model: nn.Module,
    loss_function: LossFunction,
    optimiser: torch.optim.Optimizer,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    autocast: Autocast,
    scaler: torch.amp.GradScaler,
    share: float,
    update: bool,
    clip_norm: float | None,
    judge: Judge = lambda loss, logits, gradient_norm: None,
) -> StepResult:
    """Forward, loss, backward and, when `update` is set, clip and step.

    Args:
        model: takes uint8 (B, 3, H, W), gives logits (B, K) or (B, 1).
        loss_function: (logits, labels) -> scalar mean.
        optimiser: holds the parameters, with their rates already set for this step.
        images_BCHW: uint8, on the model's device.
        labels_B: int64 class indices.
        autocast: context of the forward pass.
        scaler: loss scaling for fp16; a disabled one passes everything through.
        share: weight of this batch in the update, below 1 while gradients accumulate.
        update: whether this batch ends an update.
        clip_norm: largest global gradient norm, None for no clipping.
        judge: sees the numbers before the weights move.
    """
    with autocast():
        logits = model(images_BCHW)
        loss = loss_function(logits.float(), labels_B)
    scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
    result = StepResult(loss.detach(), logits.detach().float(), None, None)
    if not update:
        judge(result.loss, result.logits, None)
        return result
    scaler.unscale_(optimiser)
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    gradient_norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    judge(result.loss, result.logits, gradient_norm)
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(trained, clip_norm, gradient_norm)
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad(set_to_none=True)
    weight_norm = nn.utils.get_total_norm([parameter.detach() for parameter in trained])
    return result._replace(gradient_norm=gradient_norm, weight_norm=weight_norm)
