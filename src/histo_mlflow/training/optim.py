"""Optimisers by name."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from histo_mlflow.errors import RecipeError

OPTIMISERS = ("adamw", "adam", "sgd")
# Devices for which torch has kernels that update all tensors in one pass.
_FUSED = ("cpu", "cuda")


def build_optimiser(
    name: str, groups: Sequence[dict[str, Any]], *, momentum: float = 0.9
) -> Optimizer:
    """Build an optimiser over parameter groups.

    Each group's lr is kept beside it as "initial_lr", which `schedule.apply` multiplies.

    Args:
        name: "adamw" (decoupled weight decay), "adam" (weight decay as an L2 term) or "sgd".
        groups: from `models.groups.parameter_groups`, on the device they train on.
        momentum: of SGD, without Nesterov; Adam's betas stay (0.9, 0.999).

    Raises:
        RecipeError: the name is not known, or momentum is not in [0, 1).
    """
    if name not in OPTIMISERS:
        raise RecipeError(f"optimiser must be one of {', '.join(OPTIMISERS)}; {name!r} was given.")
    if not 0 <= momentum < 1:
        raise RecipeError(f"momentum must lie in [0, 1); {momentum} was given.")
    copies = [{**group, "initial_lr": group["lr"]} for group in groups]
    tensors: list[torch.Tensor] = [tensor for group in copies for tensor in group["params"]]
    fused = all(tensor.device.type in _FUSED for tensor in tensors)
    if name == "sgd":
        return SGD(copies, lr=copies[0]["lr"], momentum=momentum, fused=fused)
    return (AdamW if name == "adamw" else Adam)(copies, lr=copies[0]["lr"], fused=fused)
