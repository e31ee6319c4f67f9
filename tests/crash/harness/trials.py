"""Runs that are killed and gone on with, judged against undisturbed ones."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import fileops, phases
from harness.compare import Difference, Facts, differences, facts
from harness.job import Place
from harness.variants import VARIANTS
from harness.zygote import Aim, Cut, Order, Report, Zygote

MOST_KILLS = 8
"""Of one run."""
TIMED_SHARE = 0.4
"""So many kills come at a random time, the others in a phase that is drawn."""


@dataclass
class Tally:
    """Kills and how many of them were survived."""

    tried: int = 0
    survived: int = 0
    where: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all were survived, and there were any."""
        return 0 < self.tried == self.survived

    def count(self, kills: Sequence[str], title: str, found: list[Difference]) -> None:
        """Take the kills of one run, by the phase that each hit, and what was wrong with it."""
        self.tried += len(kills)
        self.where.update(kills)
        if found:
            shown = "; ".join(f"{d.kind}: {d.text}" for d in found[:6])
            self.failures.append(f"{title} ({', '.join(kills)}): {shown}")
        else:
            self.survived += len(kills)


class Laboratory:
    """A zygote, a folder for runs, and the undisturbed runs that others are compared with."""

    def __init__(self, folder: Path, cache: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._number = 0
        self._references: dict[tuple[str, str, str | None], tuple[Facts, Report]] = {}
        self.zygote = Zygote(cache, folder / "zygote.log")
        report = self.zygote.run(Order(str(folder / "shared"), "prepare"))
        if report.ending != "finished":
            raise RuntimeError(f"the shared data could not be made: {report.said}")

    def close(self) -> None:
        """End the zygote."""
        self.zygote.close()

    def place(self) -> Place:
        """Where the next run goes."""
        self._number += 1
        place = Place(self.folder / f"{self._number:04d}")
        return place.make(self.folder / "shared" / "fresh.db")

    def copy(self, base: Place) -> Place:
        """A copy of a run without store."""
        self._number += 1
        return base.copy(self.folder / f"{self._number:04d}")

    def reference(self, kind: str, recipe: str, broken: str | None = None) -> tuple[Facts, Report]:
        """The undisturbed run, made once."""
        key = (kind, recipe, broken)
        if key not in self._references:
            place = self.place()
            report = self.zygote.run(Order(str(place.root), kind, recipe, broken))
            if report.ending != "finished":
                raise RuntimeError(f"the undisturbed run {key} {report.ending}: {report.said}")
            self._references[key] = facts(place, stored=kind == "train"), report
            shutil.rmtree(place.root)
        return self._references[key]

    def judge(
        self, place: Place, last: Report, order: Order, broken: str | None = None
    ) -> list[Difference]:
        """What is wrong with a run after its last attempt; its files are removed if nothing is."""
        if last.ending != "finished":
            return [Difference("ending", f"{last.ending} in {last.phase}: {last.said[-600:]}")]
        reference, _ = self.reference(order.kind, order.recipe, broken)
        found = differences(reference, facts(place, stored=order.kind == "train"))
        if not found:
            shutil.rmtree(place.root)
        return found


def random_kills(lab: Laboratory, kills: int, seed: int, recipe: str = "adamw") -> Tally:
    """Kill whole trainings at random moments, each several times, until so many kills are done."""
    rng = random.Random(seed)
    _, undisturbed = lab.reference("train", recipe)
    spans = list(_spans(undisturbed))
    tally = Tally()
    while tally.tried < kills:
        place = lab.place()
        order = Order(str(place.root), "train", recipe)
        budget = min(rng.randint(1, MOST_KILLS), kills - tally.tried)
        hit: list[str] = []
        report = None
        while len(hit) < budget:
            report = lab.zygote.run(replace(order, aim=_aim(rng, spans, undisturbed.seconds)))
            if report.ending != "killed":
                break
            hit.append(_where(report))
        if report is None or report.ending == "killed":
            report = lab.zygote.run(order)
        title = f"run {place.root.name}"
        tally.count(hit, title, lab.judge(place, report, order))
    return tally


def _where(report: Report) -> str:
    resumed = any(text == "> resuming" for _, text in report.marks)
    return report.phase if resumed or report.phase != "between" else "before the epochs"


def _spans(report: Report) -> Iterator[tuple[str, int, float]]:
    """(phase, which time from 1, seconds) of a run; what came before the first is "" """
    first = report.marks[0][0]
    yield "", 1, first
    entered: list[tuple[str, int, float]] = []
    times: Counter[str] = Counter()
    for at, text in report.marks:
        direction, name = text.split(" ", 1)
        if direction == ">":
            times[name] += 1
            entered.append((name, times[name], at))
        elif entered and entered[-1][0] == name:
            _, nth, begun = entered.pop()
            yield name, nth, at - begun


def _aim(rng: random.Random, spans: list[tuple[str, int, float]], seconds: float) -> Aim:
    if rng.random() < TIMED_SHARE:
        return Aim(rng.uniform(0, seconds))
    name = rng.choice(sorted({name for name, *_ in spans}))
    # A process that goes on has less before it: early occurrences are the likelier to come.
    _, nth, lasts = rng.choice([span for span in spans if span[0] == name][:6])
    return Aim(rng.uniform(0, lasts), name, nth)


def sweep(
    lab: Laboratory,
    window: str,
    *,
    kind: str = "loop",
    recipe: str = "adamw",
    modes: Sequence[str] = fileops.MODES,
    stride: int = 1,
    first: int = 1,
) -> Tally:
    """End a training after every `stride`-th file operation of a window, in each mode.

    A loop begins at a copy of its state at the window's start.
    """
    base = lab.place()
    order = Order(str(base.root), kind, recipe)
    if kind == "loop":
        lab.zygote.run(replace(order, cut=Cut(window, 0)))
    counting = lab.copy(base) if kind == "loop" else lab.place()
    report = lab.zygote.run(replace(order, root=str(counting.root), cut=Cut(window, None)))
    ops = fileops.written_down(counting)
    tally = Tally()
    tally.count([], f"{window}, counted", lab.judge(counting, report, order))
    for mode in modes:
        which = [k for k, op in enumerate(ops, 1) if mode != "half" or op == "write"]
        for k in which[first - 1 :: stride]:
            place = lab.copy(base) if kind == "loop" else lab.place()
            here = replace(order, root=str(place.root))
            killed = lab.zygote.run(replace(here, cut=Cut(window, k, mode)))
            found = (
                lab.judge(place, lab.zygote.run(here), here)
                if killed.ending == "killed"
                else [Difference("ending", f"was to be killed, {killed.ending}: {killed.said}")]
            )
            tally.count([f"{mode} {ops[k - 1]}"], f"{window}, operation {k}, {mode}", found)
    return tally


@dataclass(frozen=True)
class Caught:
    """Whether a broken variant was noticed, and by what."""

    name: str
    kinds: frozenset[str]
    missed: frozenset[str]
    wrong: frozenset[str]
    found: tuple[Difference, ...]

    @property
    def rightly(self) -> bool:
        """Noticed by all that it must make differ, and by nothing that it must not."""
        return not self.missed and not self.wrong


def try_variant(lab: Laboratory, name: str) -> Caught:
    """Kill and go on with a broken training, and compare it with its undisturbed self."""
    variant = VARIANTS[name]
    place = lab.place()
    *killed, last = variant.orders(name, place.root)
    for order in killed:
        report = lab.zygote.run(order)
        if report.ending != "killed":
            raise RuntimeError(f"{name}: was to be killed and {report.ending}: {report.said}")
    report = lab.zygote.run(last)
    broken = name if variant.kind == "loop" else None
    found = lab.judge(place, report, last, broken)
    kinds = frozenset(difference.kind for difference in found)
    missed = variant.signs - kinds
    if not any(variant.says in difference.text for difference in found):
        missed |= {f"a word of {variant.says}"}
    return Caught(name, kinds, missed, kinds & variant.spared, tuple(found))


def shown_phases(tally: Tally) -> str:
    """A table of the phases and how many kills hit each."""
    names = [*phases.NAMES, *sorted(set(tally.where) - set(phases.NAMES))]
    return "\n".join(f"  {name:<20}{tally.where[name]:>4}" for name in names)
