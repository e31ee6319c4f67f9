"""Stops a training at the step in which something became NaN or infinite, and says with what.

On a CPU every number is looked at before the weights move. Elsewhere a look waits for the device,
so numbers are kept on it and looked at every `LOOK_EVERY` steps, and always before something is
saved: the step is named exactly, the weights in memory are past it, and the saved ones are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from histo_mlflow.data.batches import Indices, PackedDataset
from histo_mlflow.errors import NotANumberError

LOOK_EVERY = 25
ADVICE = "lower lr, lengthen warmup_epochs or set clip_norm (1.0 is usual)"
SHOWN = 8


@dataclass
class NumberWatch:
    """Follows loss, gradients and weights of an epoch.

    Attributes:
        epoch: from 0, for the message.
        at_once: look at every number as it comes; on a CPU that costs nothing.
        scaled: loss scaling is on, which expects infinite gradients now and then and skips them.
        names: ids of samples by their index.
    """

    epoch: int
    at_once: bool
    scaled: bool
    names: Callable[[Indices], tuple[str, ...]]
    _waiting: list[tuple[int, str, Tensor, Indices, Tensor | None]] = field(default_factory=list)

    def expect(
        self, step: int, what: str, value: Tensor, index: Indices, logits: Tensor | None = None
    ) -> None:
        """Raise, now or at the next look, unless `value` is a finite number.

        Args:
            step: from 0.
            what: "the loss", "the gradient", "the norm of the weights".
            value: scalar.
            index: the samples of the step.
            logits: (B, ...) of these images, which may show whose fault it is.

        Raises:
            NotANumberError: with the images.
        """
        if what == "the gradient" and self.scaled:
            return
        if self.at_once:
            self._look(step, what, value, index, logits)
        else:
            self._waiting.append((step, what, value, index, logits))

    def before_update(
        self, step: int, index: Indices, loss: Tensor, logits: Tensor, gradient_norm: Tensor | None
    ) -> None:
        """Expect numbers of a portion's loss and, where it ends an update, of the gradient.

        Raises:
            NotANumberError: with the images.
        """
        self.expect(step, "the loss", loss, index, logits)
        if gradient_norm is not None:
            self.expect(step, "the gradient", gradient_norm, index)

    def look(self) -> None:
        """Look at everything that waits.

        Raises:
            NotANumberError: for the first step concerned.
        """
        waiting, self._waiting = self._waiting, []
        values = [value for _, _, value, *_ in waiting]
        if values and not torch.isfinite(torch.stack(values)).all():
            for entry in waiting:
                self._look(*entry)

    def _look(
        self, step: int, what: str, value: Tensor, index: Indices, logits: Tensor | None
    ) -> None:
        number = float(value)
        if math.isfinite(number):
            return
        certain = False
        if logits is not None:
            broken = ~torch.isfinite(logits.flatten(1)).all(dim=1).cpu().numpy()
            certain = bool(broken.any() and not broken.all())
            index = index[broken] if certain else index
        blamed = self.names(index)
        raise NotANumberError(
            f"{what} became {number} in epoch {self.epoch + 1}, step {step + 1}, "
            f"{'because of' if certain else 'with'} the images {_shown(blamed)}: {ADVICE}, and "
            "look at images that are blamed; nothing of this step is kept",
            blamed,
        )


def expect_finite(logits: np.ndarray, epoch: int, dataset: PackedDataset) -> None:
    """Raise unless all logits of a validation, (n, K), are finite numbers.

    Raises:
        NotANumberError: with the images.
    """
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        blamed = dataset.ids(broken)
        raise NotANumberError(
            f"validation after epoch {epoch + 1} gave no numbers for {len(broken):,} of "
            f"{len(logits):,} images ({_shown(blamed)}): {ADVICE}; nothing of this epoch's end is "
            "kept",
            blamed,
        )


def _shown(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
