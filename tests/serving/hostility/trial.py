"""All cases against one server, with what it opened and what it holds."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hostility.case import Case
from hostility.judge import Oracle, Verdict, good_answer, judge
from hostility.servers import Server, open_files, opened, peak, resident
from hostility.wire import Answer

BACKLOG_SECONDS = {"mlflow": 60.0, "histo": 20.0}
"""For how long, on a slow machine, a server may be at work on what nobody waits for any more.

MLflow goes on with all of it; `histo-mlflow serve` ends soon after its own time limit.
"""
_TOO_LATE = "status 504"


@dataclass(frozen=True)
class Memory:
    """Bytes: after the warm-up, after the cases, and the most ever held by a process."""

    before: int
    after: int
    peak: int

    @property
    def grown(self) -> float:
        """Share of the memory before that came on top."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class Trial:
    """What all cases showed."""

    kind: str
    verdicts: tuple[Verdict, ...]
    opened: tuple[str, ...]
    files: tuple[int, int]
    memory: Memory
    seconds: float

    @property
    def surprises(self) -> dict[str, tuple[list[str], list[str]]]:
        """Cases whose faults are not those expected: (shown, expected).

        On a busy machine the server's own time limit may come before a fault: where 504 is allowed
        it is no surprise.
        """
        return {
            v.name: (sorted(v.faults), sorted(v.expected))
            for v in self.verdicts
            if v.faults != v.expected and not (v.status == 504 and v.survived)
        }

    def told(self) -> str:
        """Survived/tried and memory, and what was not survived, a line each."""
        lost = [verdict for verdict in self.verdicts if not verdict.survived]
        told = (
            f"{self.kind}: {len(self.verdicts) - len(lost)} of {len(self.verdicts)} survived, "
            f"{self.seconds:.0f} s; memory {self.memory.before / 1e6:.0f} MB before, "
            f"{self.memory.after / 1e6:.0f} MB after ({self.memory.grown:+.1%}), at most "
            f"{self.memory.peak / 1e6:.0f} MB in one process; opened {len(self.opened)}"
        )
        return "\n".join([told, *(f"    {v.name}: {', '.join(sorted(v.faults))}" for v in lost)])


def run(
    server: Server,
    cases: Sequence[Case],
    warm: Sequence[Case],
    oracle: Oracle,
    *,
    settle_seconds: float = 3.0,
) -> Trial:
    """Send every case; after each a good request must get the very bytes it got before.

    Those that wait are sent together at the end, so that their waits are one. One that was late,
    and may not be, is sent once more when the good request has been answered, and judged by that.

    Args:
        server: a running one.
        cases: in their order.
        warm: sent before anything is measured, so that what is loaded late, and the memory that
            the largest requests need, is there already.
        oracle: answers right.
        settle_seconds: waited before memory is looked at.
    """
    before = good_answer(server.port)
    for case in warm:
        case.send(server.port)
    good_answer(server.port)
    time.sleep(settle_seconds)
    held, files, since, started = (
        resident(server),
        open_files(server),
        time.time(),
        time.monotonic(),
    )
    verdicts = []
    for case, answer in _answers(server, cases):
        faults = judge(case, answer, oracle) | _afterwards(server, before)
        if faults == {_TOO_LATE}:  # and by now it has the time
            answer = case.send(server.port)
            faults = judge(case, answer, oracle) | _afterwards(server, before)
        expected = case.known if server.kind == "mlflow" else frozenset()
        said = answer.body[:300].decode(errors="replace")
        verdicts.append(Verdict(case.name, answer.status, faults, expected, answer.seconds, said))
    seconds = time.monotonic() - started
    time.sleep(settle_seconds)
    memory = Memory(held, resident(server), peak(server))
    return Trial(
        server.kind,
        tuple(verdicts),
        tuple(opened(server, since)),
        (files, open_files(server)),
        memory,
        seconds,
    )


def _afterwards(server: Server, before: bytes) -> frozenset[str]:
    """The faults of the answer to a good request."""
    try:
        if good_answer(server.port, BACKLOG_SECONDS[server.kind]) == before:
            return frozenset()
    except (OSError, AssertionError):
        return frozenset({"no answer afterwards"})
    return frozenset({"another answer afterwards"})


def _answers(server: Server, cases: Sequence[Case]) -> Iterator[tuple[Case, Answer]]:
    for case in cases:
        if not case.waits:
            yield case, case.send(server.port)
    waiting = [case for case in cases if case.waits]
    if waiting:
        with ThreadPoolExecutor(len(waiting)) as pool:
            found = list(pool.map(lambda case: case.send(server.port), waiting))
        yield from zip(waiting, found, strict=True)
