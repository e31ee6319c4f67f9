"""A confirmation in plain words: why the winner is the winner, and what the numbers do not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from histo_mlflow.evaluation.bootstrap import LEVEL
from histo_mlflow.evaluation.style import count
from histo_mlflow.tuning.confirm.optimism import Choice, Direction, Spread, sign_of

_FEW_REPLICATES = 3
_FEW_GROUPS = 30
_SMALLER = 0.9


@dataclass(frozen=True)
class Facts:
    """What the words are about; places are those of the plan.

    Attributes:
        names: of the recipes.
        spreads: of each.
        gains: of each over the default; None for the default.
        failures: trainings of each that ended without a value.
        compared: places of the candidates among which the winner was sought.
        common: replicates that all of these have.
        replicates: how many there were to be.
        reference: place of the default.
        choice: in places of the plan; None: no winner.
        default_within: whether the default is within one standard error of the best; None: unknown.
        direction: which way the metric is better.
    """

    names: tuple[str, ...]
    spreads: tuple[Spread, ...]
    gains: tuple[Spread | None, ...]
    failures: tuple[int, ...]
    compared: tuple[int, ...]
    common: tuple[int, ...]
    replicates: int
    reference: int
    choice: Choice | None
    default_within: bool | None
    direction: Direction


def reason(facts: Facts) -> str:
    """Why the winner is the winner, or why there is none."""
    choice = facts.choice
    if choice is None:
        return (
            f"no winner: only {count(len(facts.common), 'replicate')} of {facts.replicates} can be "
            "compared, and at least 2 are needed; let the confirmation go on"
        )
    best, chosen = facts.names[choice.best], facts.names[choice.chosen]
    if len(facts.compared) == 1:
        return f"{chosen}: the only candidate"
    error = f"one standard error ({facts.spreads[choice.best].error:.4f})"
    mean = f"the best confirmed mean ({facts.spreads[choice.best].mean:.4f}"
    if len(choice.within) == 1:
        return f"{chosen}: {mean}); no other candidate is within {error} of it"
    among = f"the simplest of {len(choice.within)} candidates within {error} of"
    if choice.chosen == choice.best:
        return f"{chosen}: {mean}), and {among} it"
    return f"{chosen}: {among} {mean}, {best})"


def verdict(facts: Facts) -> str:
    """The winner against the default."""
    choice = facts.choice
    if choice is None:
        return "nothing can be said of the default"
    if choice.chosen == facts.reference:
        return "the winner is the default recipe itself: the search found nothing better"
    chosen, over = facts.names[choice.chosen], facts.gains[choice.chosen]
    if over is None or over.mean is None:
        return "the default has no value on any compared replicate and cannot be held against it"
    gained = f"{over.mean:+.4f}{_interval(over)}"
    clear = over.low is not None and over.low > 0
    if facts.default_within is None:
        pairs = count(over.n, "compared replicate")
        return f"the default has a value on {pairs} alone; {chosen} against it there: {gained}"
    if not facts.default_within:
        if clear:
            return f"{chosen} is better than the default: {gained}"
        return (
            "the default is more than one standard error from the best, yet pair by pair the "
            f"difference of {chosen} is not clear: {gained}"
        )
    default, best = facts.spreads[facts.reference].mean, facts.spreads[choice.best].mean
    told = f"the default ({default:.4f}) is within one standard error of the best too"
    if default is not None and best is not None and sign_of(facts.direction) * (default - best) > 0:
        told = f"the default ({default:.4f}) has a better mean than every candidate"
    if clear:
        return f"{told}, yet pair by pair {chosen} is better: {gained}"
    return f"{told}: the search found nothing that the default has not ({chosen}: {gained})"


def notes(
    facts: Facts,
    group_kind: str,
    groups: int | None,
    lacking: Mapping[str, tuple[int, int]],
    predicted: bool,
    trained: int,
    search_images: int | None,
) -> tuple[str, ...]:
    """What the numbers hold and what they do not.

    Args:
        facts: of the confirmation.
        group_kind: such as "lesion".
        groups: that the judged images are of; None where no recipe has an interval by group.
        lacking: recipe without one -> in how many of its pairs both have predictions, and how many
            pairs it has.
        predicted: whether there are any predictions.
        trained: images that a replicate was trained on, at least.
        search_images: that a trial of the search was trained on, on average over its folds; None
            where that is not known.
    """
    return (
        *_what_is_missing(facts),
        f"intervals over replicates ({100 * LEVEL:.0f} %): other seeds and folds of these images, "
        "corrected for training sets that overlap (Nadeau and Bengio 2003); one data set cannot "
        "tell how another would differ",
        *_of_groups(group_kind, groups, lacking, facts.names[facts.reference], predicted),
        *_of_selection(facts),
        *_of_size(trained, search_images),
        *_of_few(len(facts.common)),
    )


def _what_is_missing(facts: Facts) -> list[str]:
    rounds = count(facts.replicates, "replicate")
    told = [
        f"{name} ended without a value in {failed} of {rounds}"
        for name, failed in zip(facts.names, facts.failures, strict=True)
        if failed
    ]
    if len(facts.common) < facts.replicates:
        told.append(
            f"{len(facts.common)} of {rounds} have a value of every "
            "candidate that is compared; means and gains are of these, and a gain is of the pairs "
            "that are there"
        )
    outside = [
        name
        for place, name in enumerate(facts.names)
        if place not in facts.compared and place != facts.reference
    ]
    if outside:
        told.append(
            f"{', '.join(outside)} cannot win: others have a value in more replicates; the mean is "
            "of the replicates that are there"
        )
    return told


def _of_groups(
    group_kind: str,
    groups: int | None,
    lacking: Mapping[str, tuple[int, int]],
    default: str,
    predicted: bool,
) -> list[str]:
    if not predicted:
        return ["no predictions of the replicates, so no intervals by group"]
    told = []
    if lacking:
        whose = ", ".join(
            f"{name} (its predictions and {default}'s could be read in {had} of "
            f"{count(pairs, 'replicate')})"
            for name, (had, pairs) in lacking.items()
        )
        told.append(
            f"no interval by {group_kind} of {whose}: of fewer replicates than the gain it would "
            "be that of another gain; give the same command where the files of their runs are"
        )
    if groups is None:
        return told
    told.append(
        f"intervals by {group_kind}: other {group_kind}s and the same trained models; how much "
        "training varies is in the interval over replicates, and neither holds the other. Pooled "
        "over replicates, an AUC mixes the scales of different models"
    )
    if groups < _FEW_GROUPS:
        told.append(f"only {groups} groups: intervals by group are rough below {_FEW_GROUPS}")
    return told


def _of_selection(facts: Facts) -> list[str]:
    told = [
        "some of the judging images are those that the search chose by, so a part of its luck is "
        "left in the means; the test split, which no study sees, has no part in it"
    ]
    if len(facts.compared) > 1:
        told.append(
            f"each interval holds by itself; the winner was chosen among {len(facts.compared)} by "
            "these means, so its own is a little flattered"
        )
    return told


def _of_size(trained: int, search_images: int | None) -> Sequence[str]:
    if search_images is None or trained >= _SMALLER * search_images:
        return ()
    return (
        f"a replicate was trained on {trained:,} images and a trial of the search on "
        f"{search_images:,}: a part of the optimism is that; more replicates leave more to train "
        "on",
    )


def _of_few(common: int) -> Sequence[str]:
    if not 2 <= common <= _FEW_REPLICATES:
        return ()
    return (f"{common} replicates: intervals over so few are very wide; 5 are usual",)


def _interval(found: Spread) -> str:
    if found.low is None or found.high is None:
        return f", no interval ({found.why})"
    return f" ({found.low:+.4f} to {found.high:+.4f})"
