"""What the gate looks at: each a name, whether it holds, and what was found in plain words."""

from __future__ import annotations

from dataclasses import dataclass

from histo_mlflow.promotion.evidence import Gain, ModelFacts

ENDED_WELL = frozenset({"finished", "early_stopped"})
UNREAL = frozenset({"placeholder", "synthetic"})
_NOTHING = 1e-12  # what rounding leaves of a difference of 0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: see `gate.OVERRIDES`.
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


def of_model(one: ModelFacts, champion: ModelFacts | None) -> list[Check]:
    """Did its run end well, is its folder whole and that run's, is it another than the champion."""
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


def of_data(
    *,
    label_source: str | None,
    split_kind: str | None,
    leaking: bool | None,
    crossing: int | None,
    promotable: bool | None = None,
) -> list[Check]:
    """Real labels, a split that does not leak, no look-alikes on two sides of it.

    Args:
        label_source: where the labels come from; None, here and below: not known.
        split_kind: such as "group".
        leaking: whether the split does.
        crossing: how many images look like others on the other side of the split.
        promotable: the run's own tag.
    """
    real = label_source is not None and label_source not in UNREAL
    labels = f"labels come from the {label_source}" if real else (
        "where the labels come from is not known" if label_source is None
        else f"the labels are {label_source}"
    )  # fmt: skip
    sound = leaking is False
    kind = split_kind or "unknown"
    if leaking is None:
        split = "how the data was split is not known"
    elif sound:
        split = f"split by {kind}: no group on two sides"
    else:
        split = f"the split (by {kind}) leaks: images of one group lie on both sides"
    alike = crossing == 0 and not (sound and real and promotable is False)
    if crossing is None:
        across = "whether look-alikes cross the split was not looked at"
    elif crossing:
        across = f"{crossing:,} images look like others on the other side of the split"
    elif alike:
        across = "no look-alikes cross the split"
    else:
        across = "the run is tagged as not promotable (histo.promotable)"
    return [
        Check("labels", real, labels),
        Check("split", sound, split),
        Check("look-alikes", alike, across),
    ]


def of_training(one: ModelFacts) -> list[Check]:
    """Real labels, a sound split, known code, results that are its own, a calibration."""
    results = one.results_problem is None
    read = f"{one.test_rows:,} held-out predictions"
    calibrated = "has a temperature" if one.calibrated else "the model has no calibration"
    if one.folds is not None and not one.calibrated:
        calibrated = (
            f"the model has no calibration: the mean of {one.folds} folds has no images of its own "
            "to be calibrated on"
        )
    checks = [
        *of_data(
            label_source=one.label_source,
            split_kind=one.split_kind,
            leaking=one.leaking,
            crossing=one.crossing,
            promotable=one.promotable,
        ),
        _code(one),
        Check("results", results, one.results_problem or read),
    ]
    if one.model_problem is None:  # else it is not known
        checks.append(Check("calibration", one.calibrated, calibrated))
    return checks


def of_comparison(gain: Gain | None, margin: float, min_groups: int) -> list[Check]:
    """Can the two be compared, and is the challenger no worse.

    Args:
        gain: of the challenger over the champion; None where there is none.
        margin: how far the lower end of its interval may lie below 0.
        min_groups: fewest groups among the compared images.
    """
    if gain is None or gain.problem is not None:
        why = "there was nothing to compare" if gain is None else gain.problem
        return [Check("comparable", False, f"it cannot be compared with the champion: {why}")]
    checks = [Check("comparable", True, f"{gain.rows:,} {gain.split} images that both have")]
    checks.append(_unseen(gain))
    checks.append(enough_groups(gain.groups, gain.rows, min_groups))
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
    shown = gain.low > -margin
    limit = f"minus the margin of {margin:g}"
    told = f"{bound}, above {limit}" if shown else f"{bound}, not above {limit}"
    return [*checks, Check("margin", shown, told)]


def enough_groups(groups: int, rows: int, min_groups: int) -> Check:
    """Are there enough groups to draw from."""
    enough = groups >= min_groups
    few = "" if enough else f", fewer than the {min_groups} that are asked for"
    unit = "group" if groups == 1 else "groups"
    return Check("groups", enough, f"{rows:,} images in {groups:,} {unit}{few}")


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


def _because(gain: Gain) -> str:
    return f": {gain.why}" if gain.why else ""
