"""What the loop is given, carries from step to step, and tells of: settings, state, records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from histo_mlflow.data.batches import Indices, Sampling
from histo_mlflow.models.build import Classifier
from histo_mlflow.models.ema import Ema
from histo_mlflow.training.stopping import Stopping
from histo_mlflow.vision.augment import Policy


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
class Progress:
    """How far the running epoch has come, and what its record will be made of.

    Attributes:
        steps: steps done.
        losses: of each step, the mean objective times its images; scalars on the device.
        logits: of each step, float32 (B, K) or (B, 1), on the device.
        seconds: spent in these steps.
        waited: of them, waiting for data.
    """

    steps: int = 0
    losses: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0


@dataclass
class LoopState:
    """Everything the loop carries on, and so everything a checkpoint has to hold.

    Gradients belong to it as well while `accumulate` batches make one update. There are no random
    generators in it: every step seeds them from its own address.

    Attributes:
        epoch: epochs done.
        micro_batch: batches are computed in portions of so many images, since more do not fit.
    """

    model: Classifier
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    stopping: Stopping
    ema: Ema | None = None
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    micro_batch: int | None = None

    @property
    def judged_model(self) -> Classifier:
        """The weights that are evaluated and kept: the average where there is one."""
        return self.model if self.ema is None else self.ema.model

    def eval_batch(self, settings: FitSettings) -> int:
        """Images judged at once: what was found to fit, where that is fewer."""
        return min(settings.eval_batch_size, self.micro_batch or settings.eval_batch_size)


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
    """Where the epoch stands; `loss` stays on the device until somebody reads it.

    `index` are the samples of the step, `look` raises if one of the numbers so far was none.
    """

    epoch: int
    step: int
    steps: int
    images: int
    loss: Tensor
    index: Indices
    look: Callable[[], None] = lambda: None
