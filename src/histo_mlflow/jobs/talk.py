"""What a job says to the person in front of it: short lines and a progress bar, on stderr."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from tqdm import tqdm

from histo_mlflow.data.findings import Finding

if TYPE_CHECKING:
    from histo_mlflow.training.state import StepRecord

LOSS_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Talk:
    """Says `topic  text` lines; says nothing when quiet.

    Attributes:
        quiet: says nothing and shows no bars.
        kept: what `warn` is told goes here instead, for a caller that lists it with other findings.
        muted: topics that are not said, for a caller that has said them.
    """

    quiet: bool = False
    kept: list[Finding] | None = None
    muted: frozenset[str] = frozenset()

    def say(self, topic: str, text: str) -> None:
        """One line; a tqdm bar on the screen is not torn."""
        if not self.quiet and topic not in self.muted:
            tqdm.write(f"{topic:<9}{text}", file=sys.stderr)

    def warn(self, finding: Finding) -> None:
        """Say a finding as a line, or keep it."""
        if self.kept is None:
            self.say(str(finding.level), f"{finding.check}: {finding.message}")
        else:
            self.kept.append(finding)

    @property
    def bars(self) -> bool:
        """Whether progress bars are wanted: never in a log file, where they are noise."""
        return not self.quiet and sys.stderr.isatty()

    def epoch_bar(self, epochs: int) -> EpochBar:
        """A bar for the steps of each epoch, with loss, images/s and time left."""
        return EpochBar(epochs, shown=self.bars)


class EpochBar:
    """Follows the loop's step records; reads the loss rarely, as reading waits for the device."""

    def __init__(self, epochs: int, *, shown: bool) -> None:
        self._epochs, self._shown = epochs, shown
        self._bar: tqdm[NoReturn] | None = None
        self._loss_read_at = 0.0

    def __call__(self, record: StepRecord) -> None:
        """Move the bar by one step."""
        if not self._shown:
            return
        if self._bar is None:
            self._bar = tqdm(
                total=record.steps * record.images,
                desc=f"epoch {record.epoch}/{self._epochs}",
                unit="img",
                leave=False,
                file=sys.stderr,
            )
        self._bar.update(record.images)
        if self._bar.last_print_t - self._loss_read_at > LOSS_EVERY_SECONDS:
            self._loss_read_at = self._bar.last_print_t
            self._bar.set_postfix(loss=f"{float(record.loss):.3f}", refresh=False)
        if record.step == record.steps:
            self.close()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
