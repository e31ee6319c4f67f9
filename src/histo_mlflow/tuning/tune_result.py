"""What `histo-mlflow tune` says at its end, as a text and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow.data.findings import counted
from histo_mlflow.tuning.confirming import Confirmed
from histo_mlflow.tuning.report.summary import summary_text


@dataclass(frozen=True)
class TuneResult:
    """What came of a study.

    Attributes:
        run_id: of the parent run.
        summary: counts and the best trials, as JSON values.
        recipe: the best trial's, as a file; None without a complete trial.
        again: the command that goes on; None where it would begin no trial.
        left: trials that have not ended.
        time_used_up: no trial is begun any more without a longer wall time.
        confirmation: what the best were worth on fresh seeds and folds; None if not asked for.
    """

    run_id: str
    summary: Mapping[str, Any]
    recipe: Path | None
    again: str | None
    left: int
    time_used_up: bool
    confirmation: Confirmed | None

    def text(self) -> str:
        """What a terminal is shown."""
        recipe = None if self.recipe is None else str(self.recipe)
        found = summary_text(self.summary, recipe=recipe, go_on=self.again)
        parts = [f"{found}\n{self._no_time()}" if self.left and self.time_used_up else found]
        if self.confirmation is not None:
            parts.append(self.confirmation.text())
        return "\n\n".join([*parts, f"run {self.run_id}"])

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "run_id": self.run_id,
            **self.summary,
            "recipe": None if self.recipe is None else str(self.recipe),
            "go_on": self.again,
            "trials_left": self.left,
            "wall_time_used_up": self.time_used_up,
            "confirmation": None if self.confirmation is None else self.confirmation.to_dict(),
        }

    def _no_time(self) -> str:
        are = "is" if self.left == 1 else "are"
        return (
            f"the study's wall time is used up and {counted(self.left, 'trial')} {are} left: to go "
            "on, give the same command a longer --wall-time"
        )
