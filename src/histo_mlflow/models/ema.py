"""An exponential moving average of a model's weights, to evaluate in its place."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.build import Classifier


class Ema:
    """The average, as a model of its own in eval mode.

    After update n (from 0) the average moves by 1 - min(decay, (1 + n) / (10 + n)) towards the
    model: the warm-up of TensorFlow's ExponentialMovingAverage, without which the random start
    would weigh in for thousands of steps. Weights and batch-norm statistics are averaged; integer
    buffers are copied.

    Attributes:
        model: the averaged model.
        updates: number of updates so far.
    """

    def __init__(self, model: Classifier, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ModelError(f"The decay of an average must lie in [0, 1); {decay} was given.")
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: Classifier) -> None:
        """Move the average towards the model, after an optimiser step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average: list[Tensor] = []
        current: list[Tensor] = []
        source = model.state_dict()
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                average.append(tensor)
                current.append(source[name])
            else:
                tensor.copy_(source[name])
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move(average, current, None)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs: {"updates": int, "model": state dict}."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; strict."""
        self.model.load_state_dict(state["model"])
        self.updates = int(state["updates"])
