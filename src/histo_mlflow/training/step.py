"""One training step, whole, on one page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]


class Autocast(Protocol):
    """Gives the context in which the forward pass runs in the planned precision."""

    def __call__(self) -> AbstractContextManager[object]:
        """A context, new at every call."""


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
) -> tuple[Tensor, Tensor]:
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

    Returns:
        The loss (scalar) and the logits in float32, both detached, still on the device.
    """
    with autocast():
        logits = model(images_BCHW)
        loss = loss_function(logits.float(), labels_B)
    scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
    if update:
        if clip_norm is not None:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)
    return loss.detach(), logits.detach().float()
