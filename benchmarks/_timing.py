"""What every benchmark here shares: timing two ways in turn, and naming the machine.

Two ways of doing one thing are timed as pairs, a then b then a then b, because a shared machine
drifts: a slow minute then falls on both. What is reported is the median of each side and the
median, least and greatest of the pairs' ratios, together with the number of pairs.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Clock = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One comparison: `pairs` holds (seconds of a, seconds of b) for the same amount of work.

    `per` divides the seconds shown (images in a pass, steps in a run), `target` is the claim in
    words, such as ">= 60x"; the ratio shown is b / a, so it says how many times faster a is.
    """

    a: str
    b: str
    pairs: Sequence[tuple[float, float]]
    per: int = 1
    target: str = ""


def pairs(
    a: Callable[[], object],
    b: Callable[[], object],
    repeats: int = 5,
    *,
    clock: Clock = time.perf_counter,
    warm_up: bool = True,
) -> list[tuple[float, float]]:
    """Time `a` and `b` in turn, `repeats` times, and return (seconds of a, seconds of b) each time.

    `clock=time.process_time` counts the CPU-seconds of all threads of this process instead of the
    wall clock; it does not see child processes. With `warm_up` both run once beforehand, untimed.
    """
    if warm_up:
        a()
        b()
    return [(_seconds(a, clock), _seconds(b, clock)) for _ in range(repeats)]


def _seconds(work: Callable[[], object], clock: Clock) -> float:
    start = clock()
    work()
    return clock() - start


def ratio(timed: Sequence[tuple[float, float]]) -> float:
    """Return the median over the pairs of b / a: how many times faster a is than b."""
    return statistics.median(b / a for a, b in timed)


def report(title: str, rows: Sequence[Row]) -> str:
    """Return a Markdown section: the title, the machine, and one table row for each comparison."""
    lines = [
        f"## {title}",
        "",
        machine(),
        "",
        "| a | b | a, median | b, median | b / a, median (least to greatest) | pairs | target |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        ratios = sorted(b / a for a, b in row.pairs)
        a, b = (statistics.median(side) / row.per for side in zip(*row.pairs, strict=True))
        lines.append(
            f"| {row.a} | {row.b} | {duration(a)} | {duration(b)} "
            f"| {statistics.median(ratios):.3g}x ({ratios[0]:.3g} to {ratios[-1]:.3g}) "
            f"| {len(ratios)} | {row.target} |"
        )
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Return seconds in the unit in which they can be read."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def machine() -> str:
    """Name in one line what the numbers were measured on: platform, processor, cores, versions."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = [
        platform.platform(terse=True),
        f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        f"{cores} cores, {torch.get_num_threads()} torch threads",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        facts.append(torch.cuda.get_device_name())
    return "Machine: " + "; ".join(facts)


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
