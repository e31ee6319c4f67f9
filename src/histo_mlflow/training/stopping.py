"""Which epoch is the best one, and when waiting for a better one ends."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Stopping:
    """Follows one metric over the epochs.

    Metrics whose name ends in `loss` are minimised, all others maximised. An undefined value (NaN,
    or a metric that is missing, such as the AUC of a split with one class) never counts as better,
    and it does count as an epoch waited.
    """

    monitor: str
    patience: int | None
    best_value: float | None = None
    best_epoch: int | None = None
    waited: int = 0

    def update(self, epoch: int, value: float | None) -> bool:
        """Take an epoch's value; True when it is the best so far."""
        if self._is_better(value):
            self.best_value, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """True when `patience` epochs in a row were no better."""
        return self.patience is not None and self.waited >= self.patience

    def _is_better(self, value: float | None) -> bool:
        if value is None or math.isnan(value):
            return False
        if self.best_value is None:
            return True
        if self.monitor.endswith("loss"):
            return value < self.best_value
        return value > self.best_value
