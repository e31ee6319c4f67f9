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
from histo_mlflow.promotion.evidence import Gain, ModelFacts

Override = Literal["never", "--force", "--allow-synthetic"]
MARGIN = 0.005
MIN_GROUPS = 30
_NOTHING = 1e-12  # what rounding leaves of a difference of 0
ENDED_WELL = frozenset({"finished", "early_stopped"})
UNREAL = frozenset({"placeholder", "synthetic"})
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
class Check:
    """One thing that was looked at.

    Attributes:
        name: see `OVERRIDES`.
        passed: whether it holds.
        told: what was found, in plain words.
        overridden: whether it does not hold and counts for nothing.
    """

    name: str
    passed: bool
    told: str
    overridden: bool = False

    @property
    def refuses(self) -> bool:
        """Whether nothing may be promoted because of it."""
        return not (self.passed or self.overridden)


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
    checks = [*_of_model(challenger, champion), *_of_training(challenger)]
    if rolled_back is not None:
        checks.append(Check("rolled back", False, f"it was rolled back {rolled_back}"))
    notes = list(_notes(challenger, champion, gain))
    if champion is None:
        checks.append(_enough(challenger.test_groups, challenger.test_rows, rules))
        notes.append("the first champion is compared with nobody")
    elif challenger.model_id != champion.model_id:
        checks += _of_comparison(gain, rules)
    order = list(OVERRIDES)
    judged = (_judged(check, rules) for check in checks)
    return Decision(tuple(sorted(judged, key=lambda one: order.index(one.name))), tuple(notes))


def _judged(check: Check, rules: Rules) -> Check:
    way = OVERRIDES[check.name]
    given = {"--force": rules.force, "--allow-synthetic": rules.allow_synthetic, "never": False}
    return Check(check.name, check.passed, check.told, not check.passed and given[way])


def _of_model(one: ModelFacts, champion: ModelFacts | None) -> list[Check]:
    whole = one.status == "FINISHED" and one.ending in ENDED_WELL
    if one.ending is None:
        run = "the run is no training of histo-mlflow that came to its end (no tag histo.ending)"
    elif whole:
        run = f"run {one.run_id[:6]} {one.ending.replace('_', ' ')}"
    else:
        run = f"run {one.run_id[:6]} is {one.status} and ended as {one.ending}"
    checks = [Check("run", whole, run)]
    checks.append(
        Check(
            "model", one.model_problem is None, one.model_problem or "every byte as it was logged"
        )
    )
    if one.model_problem is None:
        same = one.model_run_id == one.run_id
        checks.append(
            Check(
                "origin",
                same,
                "the model names this run as its origin"
                if same
                else f"the model was made by run {one.model_run_id}, not by {one.run_id}",
            )
        )
    is_new = champion is None or champion.model_id != one.model_id
    new = "it is not the champion yet" if is_new else f"it is the champion already ({one.model_id})"
    return [*checks, Check("new", is_new, new)]


def _of_training(one: ModelFacts) -> list[Check]:
    real = one.label_source is not None and one.label_source not in UNREAL
    labels = f"labels come from the {one.label_source}" if real else (
        "where the labels come from is not known" if one.label_source is None
        else f"the labels are {one.label_source}"
    )  # fmt: skip
    sound = one.leaking is False
    kind = one.split_kind or "unknown"
    if one.leaking is None:
        split = "how the data was split is not known"
    elif sound:
        split = f"split by {kind}: no group on two sides"
    else:
        split = f"the split (by {kind}) leaks: images of one group lie on both sides"
    alike = one.crossing == 0 and not (sound and real and one.promotable is False)
    if one.crossing is None:
        crossing = "whether look-alikes cross the split was not looked at"
    elif one.crossing:
        crossing = f"{one.crossing:,} images look like others on the other side of the split"
    elif alike:
        crossing = "no look-alikes cross the split"
    else:
        crossing = "the run is tagged as not promotable (histo.promotable)"
    results = one.results_problem is None
    read = f"{one.test_rows:,} held-out predictions"
    calibrated = "has a temperature" if one.calibrated else "the model has no calibration"
    if one.folds is not None and not one.calibrated:
        calibrated = (
            f"the model has no calibration: the mean of {one.folds} folds has no images of its own "
            "to be calibrated on"
        )
    checks = [
        Check("labels", real, labels),
        Check("split", sound, split),
        Check("look-alikes", alike, crossing),
        _code(one),
        Check("results", results, one.results_problem or read),
    ]
    if one.model_problem is None:  # else it is not known
        checks.append(Check("calibration", one.calibrated, calibrated))
    return checks


def _code(one: ModelFacts) -> Check:
    if one.dirty is None:
        return Check("code", True, "no git: versions of packages are all that is known")
    if not one.dirty:
        return Check("code", True, "a clean commit")
    if one.patch:
        note = f" ({one.patch_note})" if one.patch_note else ""
        return Check("code", True, f"a commit and its uncommitted changes{note}")
    why = one.patch_note or "there is no patch"
    return Check("code", False, f"it ran with uncommitted changes that are not kept: {why}")


def _of_comparison(gain: Gain | None, rules: Rules) -> list[Check]:
    if gain is None or gain.problem is not None:
        why = "there was nothing to compare" if gain is None else gain.problem
        return [Check("comparable", False, f"it cannot be compared with the champion: {why}")]
    checks = [Check("comparable", True, f"{gain.rows:,} {gain.split} images that both have")]
    checks.append(_unseen(gain))
    checks.append(_enough(gain.groups, gain.rows, rules))
    if gain.gain is None:
        why = f"the difference of {gain.metric} is undefined{_because(gain)}"
        return [*checks, Check("no worse", False, why)]
    better = gain.gain >= -_NOTHING
    told = f"{gain.metric} {gain.champion:.4f} -> {gain.challenger:.4f} ({gain.gain:+.4f})"
    checks.append(Check("no worse", better, told if better else f"it is worse: {told}"))
    if gain.low is None or gain.high is None:
        why = f"the difference of {gain.metric} has no interval{_because(gain)}"
        return [*checks, Check("margin", False, why)]
    bound = f"the gain is {gain.low:+.4f} to {gain.high:+.4f} (95 %)"
    shown = gain.low > -rules.margin
    limit = f"minus the margin of {rules.margin:g}"
    told = f"{bound}, above {limit}" if shown else f"{bound}, not above {limit}"
    return [*checks, Check("margin", shown, told)]


def _because(gain: Gain) -> str:
    return f": {gain.why}" if gain.why else ""


def _unseen(gain: Gain) -> Check:
    told = []
    for name, n in gain.seen.items():
        if n is None:
            told.append(f"what {name} was trained on is not known")
        elif n:
            told.append(
                f"{n:,} of the compared images belong to a group that {name} was trained on"
            )
    return Check("unseen", not told, "; ".join(told) or "neither was trained on them")


def _enough(groups: int, rows: int, rules: Rules) -> Check:
    enough = groups >= rules.min_groups
    few = "" if enough else f", fewer than the {rules.min_groups} that are asked for"
    unit = "group" if groups == 1 else "groups"
    return Check("groups", enough, f"{rows:,} images in {groups:,} {unit}{few}")


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
