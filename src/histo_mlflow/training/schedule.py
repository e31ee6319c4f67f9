"""The learning rate as a pure function of the step, so that resuming needs no scheduler state."""

import math

from torch.optim import Optimizer

from histo_mlflow.errors import RecipeError

SCHEDULES = ("constant", "cosine", "onecycle")


def multiplier(
    step: int,
    *,
    total_steps: int,
    steps_per_epoch: int,
    schedule: str,
    warmup_epochs: float = 0.0,
    pct_start: float = 0.25,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> float:
    """By how much the base rates are multiplied at an optimiser step.

    constant: 1. cosine: from 1 to 0 over the steps after the warm-up (Loshchilov and Hutter 2017,
    arXiv:1608.03983; torch's CosineAnnealingLR stepped once a step). Both start with a linear
    warm-up, step 0 being 1 / warm-up steps. onecycle: cosine from 1 / div_factor up to 1 and down
    to 1 / (div_factor * final_div_factor) (Smith and Topin 2018, arXiv:1708.07120; torch's
    OneCycleLR, but momentum is not cycled, and pct_start is fastai's); it has its own warm-up.

    Args:
        step: index of the optimiser step about to be taken, 0 <= step; steps past the end keep
            the last value.
        total_steps: optimiser steps of the whole training.
        steps_per_epoch: optimiser steps of an epoch (batches / accumulation).
        schedule: "constant", "cosine" or "onecycle".
        warmup_epochs: length of the warm-up; may be a fraction; 0 for onecycle.
        pct_start: share of the steps in which one-cycle rises.
        div_factor: one-cycle starts at 1 / div_factor.
        final_div_factor: one-cycle ends this much below its start.

    Returns:
        A number in [0, 1].

    Raises:
        RecipeError: unknown schedule, no steps, a warm-up as long as the training, or a warm-up
            with one-cycle.
    """
    if schedule not in SCHEDULES:
        raise RecipeError(
            f"schedule must be one of {', '.join(SCHEDULES)}; {schedule!r} was given."
        )
    if total_steps < 1 or step < 0:
        raise RecipeError(f"A schedule needs steps from 0 of 1 or more; {step} of {total_steps}.")
    step = min(step, total_steps - 1)
    if schedule == "onecycle":
        if warmup_epochs:
            raise RecipeError(
                "schedule=onecycle has its own warm-up; set warmup_epochs=0 or another schedule."
            )
        return _onecycle(step, total_steps, pct_start, div_factor, final_div_factor)
    warmup = round(warmup_epochs * steps_per_epoch)
    if warmup and warmup >= total_steps:
        raise RecipeError(
            f"The warm-up ({warmup} steps) must end before the training ({total_steps} steps): "
            "lower warmup_epochs or raise epochs."
        )
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return _cosine(1.0, 0.0, (step - warmup) / (total_steps - warmup))


def apply(optimiser: Optimizer, factor: float) -> float:
    """Set each group's lr to its "initial_lr" times the factor, and return the highest."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return max(float(group["lr"]) for group in optimiser.param_groups)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


def _onecycle(step: int, total: int, pct_start: float, div: float, final_div: float) -> float:
    if not 0 < pct_start < 1:
        raise RecipeError(f"pct_start must lie between 0 and 1; {pct_start} was given.")
    start, end = 1 / div, 1 / (div * final_div)
    # torch's convention: the last step of the rise is pct_start * total - 1. A training too short
    # for a rise starts at its peak.
    peak = max(pct_start * total - 1, 0.0)
    if step < peak:
        return _cosine(start, 1.0, step / peak)
    fall = total - 1 - peak
    return _cosine(1.0, end, (step - peak) / fall) if fall else 1.0
