"""What pruning saves a study, and whether it prunes what would have won.

Claims: with pruning the same best value is reached in at most half of the time, and of the pruned
trials at most 2 % would have won.
n: --seeds studies of `pruning.yaml`, each run once without and once with pruning; the pruners of
the last table replayed over the trials in their order and in --orders others.

    python benchmarks/pruning.py [--seeds N] [--trials N] [--pruner YAML] [--processes N]
        [--orders N]

The sampler is random and a training is deterministic, so both studies of a seed have the very same
trials, and the one without pruning is the pruned trials trained on. That the reports of both agree
to the last bit is asserted. Trials run one after the other through queue, sampler and pruner of
`tune`, one process a seed.

The same best value: the lower of the best values of both studies. Its time: the seconds of all
epochs up to the end of the first complete trial that has it, both counted with the seconds that the
trial's epochs took without pruning; "clock" is the time that really went by, with bookkeeping.
Would have won: trained on, the trial's value is above the best complete one of the pruned study.

The default pruner was chosen by replays over seeds 0 and 1; the others have not been looked at.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import optuna
import yaml
from pydantic import TypeAdapter

from _studies import laboratory, opened
from _timing import machine
from histo_mlflow.tracking.store import Store
from histo_mlflow.tuning.objective import run_trial
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.study.pruners import Pruner, PrunerSpec, make_pruner
from histo_mlflow.tuning.study.study_file import StudyFile, load_study

STUDY = Path(__file__).with_name("pruning.yaml")
SPEC: TypeAdapter[Pruner] = TypeAdapter(PrunerSpec)
PRUNERS = (
    "{name: median}",
    "{name: median, warmup: 1}",
    "{name: median, startup_trials: 3, warmup: 1}",
    "{name: median, startup_trials: 3, warmup: 0}",
    "{name: hyperband}",
    "{name: hyperband, reduction: 2}",
    "{name: hyperband, reduction: 4}",
    "{name: hyperband, min_epochs: 2}",
    "{name: median, startup_trials: 2, warmup: 0}",
    "{name: patient}",
)


@dataclass(frozen=True)
class Done:
    """A trial that ended.

    Attributes:
        curve: what it reported, an epoch each.
        value: None of a pruned one.
        seconds: of its epochs.
        ended: seconds by the clock from the begin of the study; NaN where it was replayed.
    """

    curve: tuple[float, ...]
    value: float | None
    seconds: float
    ended: float = float("nan")


def study(file: StudyFile, title: str, folder: Path, store: Store) -> list[Done]:
    """All trials of a study, run now."""
    found = []
    with opened(file, title, folder, store) as place:
        started = perf_counter()
        while not place.queue.over():
            trial = place.claim()
            assert trial is not None, "nobody else is at it"
            run_trial(place, trial)
            done = place.storage.get_trial(trial._trial_id)
            assert done.state.name in ("COMPLETE", "PRUNED"), done
            curve = tuple(value for _, value in sorted(done.intermediate_values.items()))
            seconds = done.user_attrs.get(name.SECONDS, 0.0)
            found.append(Done(curve, done.value, seconds, perf_counter() - started))
    return found


def both_ways(pruner: str, trials: int | None, seed: int) -> tuple[list[Done], list[Done]]:
    """The study of a seed with a pruner and without, in stores of its own."""
    given = {"seed": seed, "split_seed": seed} | ({} if trials is None else {"trials": trials})
    file = load_study(str(STUDY), given)
    other = file.model_copy(update={"pruner": SPEC.validate_python(yaml.safe_load(pruner))})
    with laboratory() as (folder, store):
        study(file.model_copy(update={"trials": 1}), f"first-{seed}", folder, store)  # is slower
        whole = study(file, f"whole-{seed}", folder, store)
        return study(other, f"pruned-{seed}", folder, store), whole


def replay(whole: Sequence[Done], pruner: Pruner, title: str) -> list[Done]:
    """What a pruner makes of trials that were trained to their end, in this order."""
    epochs = max(len(one.curve) for one in whole)
    again = optuna.create_study(
        study_name=title, direction="maximize", pruner=make_pruner(pruner, epochs=epochs)
    )
    return [_replayed(one, again) for one in whole]


def _replayed(one: Done, again: optuna.Study) -> Done:
    if one.value is None:  # diverged
        again.tell(again.ask(), state=optuna.trial.TrialState.PRUNED)
        return one
    trial = again.ask()
    for epoch, value in enumerate(one.curve, 1):
        trial.report(value, epoch)
        if trial.should_prune() and epoch < len(one.curve):
            again.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return Done(one.curve[:epoch], None, one.seconds * epoch / len(one.curve))
    again.tell(trial, one.value)
    return one


@dataclass(frozen=True)
class Compared:
    """A study with pruning against the same one without.

    Attributes:
        reach: seconds of epochs until the same best value, (with, without).
        clock: the same by the clock.
        whole: seconds of all epochs.
        best: best values.
        pruned: how many were.
        lost: how many of them would have won.
    """

    reach: tuple[float, float]
    clock: tuple[float, float]
    whole: tuple[float, float]
    best: tuple[float, float]
    pruned: int
    lost: int


def compare(pruned: Sequence[Done], whole: Sequence[Done]) -> Compared:
    """Both studies have the same trials in the same order."""
    sides = ([_in_seconds_of(*pair) for pair in zip(pruned, whole, strict=True)], whole)
    best = (_best(pruned), _best(whole))
    stops = [_reached(side, min(best)) for side in sides]
    cut = [i for i, one in enumerate(pruned) if one.value is None and whole[i].value is not None]
    return Compared(
        reach=_pair(
            sum(one.seconds for one in side[: stop + 1])
            for side, stop in zip(sides, stops, strict=True)
        ),
        clock=_pair(side[stop].ended for side, stop in zip(sides, stops, strict=True)),
        whole=_pair(sum(one.seconds for one in side) for side in sides),
        best=best,
        pruned=len(cut),
        lost=sum((whole[i].value or 0.0) > best[0] for i in cut),
    )


def _in_seconds_of(one: Done, other: Done) -> Done:
    """The same trial with epochs as long as the other's: a busy minute is no saving."""
    share = len(one.curve) / max(len(other.curve), 1)
    return replace(one, seconds=other.seconds * share)


def _pair(values: Any) -> tuple[float, float]:
    first, second = values
    return first, second


def _best(trials: Sequence[Done]) -> float:
    return max(one.value for one in trials if one.value is not None)


def _reached(trials: Sequence[Done], target: float) -> int:
    return next(i for i, one in enumerate(trials) if one.value is not None and one.value >= target)


def assert_same(pruned: Sequence[Done], whole: Sequence[Done]) -> None:
    """Every report of the pruned study is the other's, to the last bit."""
    assert len(pruned) == len(whole)
    for number, (one, other) in enumerate(zip(pruned, whole, strict=True)):
        assert one.curve == other.curve[: len(one.curve)], f"trial {number} is another one"
        assert one.value is None or one.value == other.value, f"trial {number} is another one"


def summed(found: Sequence[Compared]) -> str:
    """Ratios of sums and medians, and the share of winners among the pruned, as a table's cells."""
    reach = [one.reach[0] / one.reach[1] for one in found]
    sums = [
        sum(getattr(one, part)[0] for one in found) / sum(getattr(one, part)[1] for one in found)
        for part in ("reach", "whole")
    ]
    pruned, lost = sum(one.pruned for one in found), sum(one.lost for one in found)
    worse = statistics.mean(one.best[1] - one.best[0] for one in found)
    share = f"{lost / pruned:.1%}" if pruned else "-"
    return (
        f"{sums[0]:.2f} | {statistics.median(reach):.2f} ({min(reach):.2f} to {max(reach):.2f}) "
        f"| {sums[1]:.2f} | {pruned} | {lost} ({share}) | {worse:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, help="of a study; default: the file's")
    parser.add_argument("--pruner", default="{name: median, startup_trials: 3, warmup: 0}")
    parser.add_argument("--processes", type=int, default=2, help="seeds that run at once")
    parser.add_argument("--orders", type=int, default=5, help="of the replays, besides their own")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = SPEC.validate_python(yaml.safe_load(options.pruner))
    print(machine())
    print(
        f"\npruner {options.pruner}, {options.processes} seeds at once; seconds are with / without"
    )
    print("\n| seed | trials | epochs until the same best | clock | all epochs | best | pruned "
          "| would have won |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    wholes, real = [], []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        both = partial(both_ways, options.pruner, options.trials)
        for seed, (pruned, whole) in enumerate(pool.map(both, range(options.seeds))):
            assert_same(pruned, whole)
            assert [one.curve for one in replay(whole, pruner, f"pruned-{seed}")] == [
                one.curve for one in pruned
            ], "the replay prunes other trials than the study did"
            wholes.append(whole)
            real.append(one := compare(pruned, whole))
            cells = [
                f"{a:.0f} / {b:.0f} s: {a / b:.2f}" for a, b in (one.reach, one.clock, one.whole)
            ]
            print(
                f"| {seed} | {len(whole)} | {' | '.join(cells)} | {one.best[0]:.4f} / "
                f"{one.best[1]:.4f} | {one.pruned} | {one.lost} |",
                flush=True,
            )
    head = ("| epochs until the same best, ratio of sums | median (least to greatest) "
            "| all epochs | pruned | would have won (bound 2 %) | best value lost |\n"
            "|---|---|---|---|---|---|---|")  # fmt: skip
    print(f"\n| run {head}\n| {options.pruner} | {summed(real)} |")
    print(f"\nreplayed, each seed in its own order and {options.orders} others\n\n| pruner {head}")
    for text in PRUNERS:
        print(f"| {text} | {summed(replays(wholes, text, options.orders))} |", flush=True)


def replays(wholes: Sequence[Sequence[Done]], pruner: str, orders: int) -> list[Compared]:
    """A pruner against none, for every study in every order."""
    spec, rng, found = SPEC.validate_python(yaml.safe_load(pruner)), np.random.default_rng(0), []
    for seed, whole in enumerate(wholes):
        for turn in range(orders + 1):
            order = rng.permutation(len(whole)) if turn else np.arange(len(whole))
            turned = [whole[i] for i in order]
            found.append(compare(replay(turned, spec, f"pruned-{seed}"), turned))
    return found


if __name__ == "__main__":
    main()
