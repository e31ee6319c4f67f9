"""The gate: evidence in, a decision with all of its reasons out. Knows nothing of MLflow.

A challenger becomes champion if nothing speaks against it as a model, and if it is shown to be no
worse than the champion on images that neither has seen: its metric is at least the champion's, and
the lower end of the difference's 95 % interval (groups drawn, both models on the same draws) is
above minus a margin. The first alone would promote on noise; the second alone (non-inferiority)
would promote what is worse by less than the margin, again and again. Two models that say the same
pass: the later one was asked for.

What each failed check means:

- of the model itself (`CANDIDATE`): it is not registered.
- of the comparison (`COMPARED`): it is registered and becomes `@challenger`.

`--force` overrides what is a judgement, and it is recorded. It does not override what would make
the registry lie: a run that did not come to its end, a model folder that is altered or another
run's, a model that is the champion already. Made-up labels are a switch of their own
(`--allow-synthetic`), so that a force meant for something else does not let them through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from histo_mlflow.errors import PromotionError
from histo_mlflow.promotion.checks import (
    Check,
    enough_groups,
    of_comparison,
    of_model,
    of_training,
)
from histo_mlflow.promotion.evidence import Gain, ModelFacts

Override = Literal["never", "--force", "--allow-synthetic"]
MARGIN = 0.005
MIN_GROUPS = 30
OVERRIDES: dict[str, Override] = {
    "run": "never",
    "model": "never",
    "origin": "never",
    "new": "never",
    "labels": "--allow-synthetic",
    "split": "--force",
    "look-alikes": "--force",
    "code": "--force",
    "calibration": "--force",
    "results": "--force",
    "rolled back": "--force",
    "comparable": "--force",
    "unseen": "--force",
    "groups": "--force",
    "no worse": "--force",
    "margin": "--force",
}
"""What gets past each check when it fails."""
COMPARED = frozenset({"rolled back", "comparable", "unseen", "groups", "no worse", "margin"})
CANDIDATE = frozenset(OVERRIDES) - COMPARED


@dataclass(frozen=True)
class Rules:
    """What is asked of a challenger.

    Attributes:
        metric: what decides.
        margin: how far the lower end of the difference's interval may lie below 0.
        min_groups: fewest groups among the compared images.
        force: get past what is a judgement.
        allow_synthetic: made-up labels are good enough, as in a tutorial.
    """

    metric: str = "auc"
    margin: float = MARGIN
    min_groups: int = MIN_GROUPS
    force: bool = False
    allow_synthetic: bool = False

    def __post_init__(self) -> None:
        """Refuse a margin or a number of groups that mean nothing.

        Raises:
            PromotionError: so it is.
        """
        if not math.isfinite(self.margin) or self.margin < 0:
            raise PromotionError(f"Expected a margin of 0 or more, got {self.margin}")
        if self.min_groups < 1:
            raise PromotionError(f"Expected at least 1 group as the fewest, got {self.min_groups}")


@dataclass(frozen=True)
class Decision:
    """What the gate says.

    Attributes:
        checks: all of them, in the order of `OVERRIDES`.
        notes: what to keep in mind, and refuses nothing.
    """

    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def promoted(self) -> bool:
        """Whether the challenger becomes the champion."""
        return not any(check.refuses for check in self.checks)

    @property
    def registered(self) -> bool:
        """Whether the model is good enough to be a version: only the comparison may refuse it."""
        return not any(check.refuses and check.name in CANDIDATE for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is refused; empty where it is not."""
        return tuple(check.told for check in self.checks if check.refuses)

    @property
    def forced(self) -> tuple[str, ...]:
        """Names of the checks that were overridden."""
        return tuple(check.name for check in self.checks if check.overridden)

    def advice(self) -> str:
        """Return what would get past the reasons, as a clause; empty where nothing would."""
        ways = {OVERRIDES[check.name] for check in self.checks if check.refuses}
        if not ways or "never" in ways:
            return ""
        return " and ".join(sorted(ways)) + " would let it through, and is recorded"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "promoted": self.promoted,
            "registered": self.registered,
            "reasons": list(self.reasons),
            "forced": list(self.forced),
            "checks": [
                {**asdict(check), "override": OVERRIDES[check.name]} for check in self.checks
            ],
            "notes": list(self.notes),
        }


def decide(
    challenger: ModelFacts,
    champion: ModelFacts | None,
    gain: Gain | None,
    rules: Rules,
    *,
    rolled_back: str | None = None,
) -> Decision:
    """Look at everything and say all that is against a challenger.

    Args:
        challenger: the model that is asked for.
        champion: the one it would replace; None for the first, which is held against nobody.
        gain: of the challenger over the champion; None where there is none.
        rules: what is asked.
        rolled_back: when and by whom this very model was left as champion; None if it was not.
    """
    checks = [*of_model(challenger, champion), *of_training(challenger)]
    if rolled_back is not None:
        checks.append(Check("rolled back", False, f"it was rolled back {rolled_back}"))
    notes = list(_notes(challenger, champion, gain))
    if champion is None:
        checks.append(enough_groups(challenger.test_groups, challenger.test_rows, rules.min_groups))
        notes.append("the first champion is compared with nobody")
    elif challenger.model_id != champion.model_id:
        checks += of_comparison(gain, rules.margin, rules.min_groups)
    order = list(OVERRIDES)
    judged = (_judged(check, rules) for check in checks)
    return Decision(tuple(sorted(judged, key=lambda one: order.index(one.name))), tuple(notes))


def _judged(check: Check, rules: Rules) -> Check:
    way = OVERRIDES[check.name]
    given = {"--force": rules.force, "--allow-synthetic": rules.allow_synthetic, "never": False}
    return Check(check.name, check.passed, check.told, not check.passed and given[way])


def _notes(challenger: ModelFacts, champion: ModelFacts | None, gain: Gain | None) -> Sequence[str]:
    notes = []
    for one in (challenger, champion):
        if one is not None and one.folds is not None:
            notes.append(
                f"{one.name} is the mean of {one.folds} folds; it is judged by its out-of-fold "
                "predictions, each by the one fold that did not see the image's group, so its own "
                "score is not measured"
            )
    if gain is not None and gain.problem is None:
        notes += [
            f"{n:,} {gain.split} images of {name} are left out, since the other has them elsewhere "
            "or not at all"
            for name, n in gain.left_out.items()
            if n
        ]
        if gain.same_data is False:
            notes.append("the two saw different data sets; only images of one id, label and group")
    return notes
