"""Do the intervals of a confirmation hold the truth? A simulation with known scores; all synthetic.

A search tries recipes whose true scores are known and judges them by one validation split of the
development groups. Its best are trained again on R folds of the same groups, with new seeds. The
score of recipe j on fold r is its true score, plus how hard the fold's groups are for all and for
j, plus what the training groups do to j (training sets of folds share groups, so this is what is
correlated), plus the luck of the seed:

    true[j] + mean over val of (hard[g] + mine[j, g]) + weight * mean over train of taught[j, g]
            + seed[j, r]

Three worlds differ in how much the training groups matter. Counted is how often 95 % intervals hold
the true optimism and the true gain over the default, with the correction for overlap and without.
There are two truths: that of these development groups, which the winner will be trained on (new
groups judge it), and that of another data set of the same kind, whose training groups are others.
Then: what the one-standard-error rule picks among the confirmed, whose costs are random.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from histo_mlflow.tuning.confirm.optimism import (
    Optimism,
    Spread,
    gain,
    one_standard_error,
    optimism,
    spread,
)

Floats = npt.NDArray[np.float64]

GROUPS, TRIALS, CONFIRMED = 600, 40, 3
SEED_SD = 0.004
HARD_SD, MINE_SD = 0.15, 0.06
TRUE_SD = 0.010
VALIDATION = 0.176  # 15 of the 85 % that are not test
WORLDS = {"little": 0.0, "as much as the seed": 0.004, "twice that": 0.008}
"""How much the training groups matter: SD, over data sets, of the score of a recipe by them."""


@dataclass(frozen=True)
class World:
    """One data set: what its groups do, by recipe; the last recipe is the default."""

    true: Floats
    hard: Floats
    mine: Floats
    taught: Floats

    def truth(self) -> Floats:
        """The scores of recipes that are trained on these groups and judged by new ones."""
        return np.asarray(self.true + self.taught.mean(axis=1), np.float64)

    def score(self, recipe: int, val: npt.NDArray[np.bool_], rng: np.random.Generator) -> float:
        """Train and judge once."""
        judged = (self.hard + self.mine[recipe])[val].mean()
        return float(
            self.true[recipe] + judged + self.taught[recipe][~val].mean() + rng.normal(0, SEED_SD)
        )


def world(rng: np.random.Generator, taught_sd: float) -> World:
    """Draw a data set of GROUPS groups and TRIALS recipes beside the default."""
    return World(
        true=np.append(0.90 + rng.normal(0, TRUE_SD, TRIALS), 0.90),
        hard=rng.normal(0, HARD_SD, GROUPS),
        mine=rng.normal(0, MINE_SD, (TRIALS + 1, GROUPS)),
        taught=rng.normal(0, taught_sd * math.sqrt(GROUPS), (TRIALS + 1, GROUPS)),
    )


def repetition(
    rng: np.random.Generator,
    taught_sd: float,
    rounds: int,
    counts: defaultdict[tuple[str, ...], float],
) -> None:
    """Search, confirm, and count what holds."""
    drawn = world(rng, taught_sd)
    of_search = rng.permutation(GROUPS) < VALIDATION * GROUPS
    reported = np.array([drawn.score(j, of_search, rng) for j in range(TRIALS)])
    places = [*map(int, np.argsort(-reported)[:CONFIRMED]), TRIALS]
    fold_of = rng.permutation(GROUPS) % rounds
    values = [[drawn.score(place, fold_of == r, rng) for r in range(rounds)] for place in places]
    here, elsewhere = drawn.truth(), drawn.true
    for name, overlap in (("corrected", 1 / (rounds - 1)), ("plain", 0.0)):
        for k, place in enumerate(places[:-1]):
            flattered = optimism(float(reported[place]), spread(values[k], overlap), "maximize")
            over = gain(values[k], values[-1], "maximize", overlap)
            for where, truth in (("here", here), ("elsewhere", elsewhere)):
                counts[where, "optimism", name] += holds(flattered, reported[place] - truth[place])
                counts[where, "gain", name] += holds(over, truth[place] - truth[-1])
    best = places[0]
    counts["flattered",] += reported[best] - here[best]
    counts["left",] += np.mean(values[0]) - here[best]
    choose(values[:-1], here[places[:-1]], rng, counts)


def choose(
    values: list[list[float]],
    true: Floats,
    rng: np.random.Generator,
    counts: defaultdict[tuple[str, ...], float],
) -> None:
    """Let rules choose among recipes of random cost; count what each loses."""
    spreads = [spread(of_one, 0.0) for of_one in values]
    costs = [(float(cost), 0.0) for cost in rng.permutation(CONFIRMED)]
    wider = math.sqrt(1 + len(values[0]) / (len(values[0]) - 1))
    chosen = {
        "own": _by_rule(spreads, costs, 1.0),
        "corrected": _by_rule(spreads, costs, wider),
        "best mean": _by_rule(spreads, costs, 0.0),
        "paired": _paired(values, costs),
    }
    error = float(np.mean([one.error or 0 for one in spreads]))
    for name, place in chosen.items():
        lost = float(true.max() - true[place])
        counts[name, "within"] += lost <= error
        counts[name, "lost"] += lost
        counts[name, "cheapest"] += costs[place][0] == 0


def _by_rule(spreads: list[Spread], costs: list[tuple[float, float]], factor: float) -> int:
    """The rule with its standard error made wider, or 0."""
    those = [replace(one, error=(one.error or 0) * factor) for one in spreads]
    return one_standard_error(those, costs, "maximize").chosen


def _paired(values: list[list[float]], costs: list[tuple[float, float]]) -> int:
    """The same with the standard error of the paired difference to the best."""
    best = max(values, key=np.mean)
    within = []
    for place, of_one in enumerate(values):
        behind = spread(np.subtract(best, of_one).tolist(), 0.0)
        if (behind.mean or 0) <= (behind.error or 0):
            within.append(place)
    return min(within, key=lambda place: costs[place])


def holds(found: Spread | Optimism, truth: float) -> int:
    """An interval that is not given holds nothing."""
    return int(
        found.low is not None and found.high is not None and found.low <= truth <= found.high
    )


def main() -> None:
    """Print coverage and choices for R = 3, 5, 10."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    n = parser.parse_args().repetitions
    started = perf_counter()
    counted: dict[tuple[str, int], defaultdict[tuple[str, ...], float]] = {}
    for number, (name, taught_sd) in enumerate(WORLDS.items()):
        for rounds in (3, 5, 10):
            counts = counted[name, rounds] = defaultdict(float)
            for i in range(n):
                repetition(np.random.default_rng([number, rounds, i]), taught_sd, rounds, counts)
    print(f"synthetic; {n:,} repetitions, {GROUPS} groups, best {CONFIRMED} of {TRIALS} trials\n")
    heads = ["training groups matter", "R"]
    pairs = [(what, how) for what in ("optimism", "gain") for how in ("corrected", "plain")]
    for where in ("here", "elsewhere"):
        print(f"truth {where}\n")
        table(
            [*heads, *(f"{what}, {how}" for what, how in pairs)],
            {
                key: [f"{100 * c[where, *pair] / n / CONFIRMED:.1f} %" for pair in pairs]
                for key, c in counted.items()
            },
        )
    print("the search's best trial, truth here\n")
    table(
        [*heads, "search flatters by", "left in the confirmed mean"],
        {k: [f"{c[what,] / n:+.4f}" for what in ("flattered", "left")] for k, c in counted.items()},
    )
    print("chosen: within one standard error of the truly best / mean loss to it / the cheapest\n")
    rules = ("own", "corrected", "paired", "best mean")
    table(
        [*heads, *rules],
        {
            key: [
                f"{100 * c[rule, 'within'] / n:.0f} % / {c[rule, 'lost'] / n:.4f} / "
                f"{100 * c[rule, 'cheapest'] / n:.0f} %"
                for rule in rules
            ]
            for key, c in counted.items()
        },
    )
    print(f"{perf_counter() - started:.0f} s")


def table(head: list[str], rows: dict[tuple[str, int], list[str]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for (name, rounds), cells in rows.items():
        print(f"| {name} | {rounds} | {' | '.join(cells)} |")
    print()


if __name__ == "__main__":
    main()
