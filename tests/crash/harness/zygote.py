"""A process that has imported everything forks one real training after another, and kills them.

Starting Python, torch and mlflow takes seconds; a fork takes milliseconds. The process never trains
or opens a store itself, so a child begins as a fresh one would. It reads orders and writes reports,
one line of JSON each.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 240.0
"""Seconds after which a child counts as hung."""


@dataclass(frozen=True)
class Aim:
    """When to kill: so many seconds after the n-th time (from 1) that a phase is entered.

    An empty phase counts from the fork.
    """

    seconds: float
    phase: str = ""
    nth: int = 1


@dataclass(frozen=True)
class Cut:
    """After which file operation a process ends itself; see `fileops`.

    Attributes:
        window: where operations count.
        k: after the k-th, from 1; 0: before the first; None: they are only counted.
        mode: of `fileops.MODES`.
        op: only operations of that name count.
    """

    window: str
    k: int | None
    mode: str = "kill"
    op: str | None = None


@dataclass(frozen=True)
class Order:
    """One attempt at a training.

    Attributes:
        root: see `job.Place`.
        kind: "train", "loop", "prepare" or, to break the code and do no more, "break".
        recipe: of `job.RECIPES`.
        broken: of `variants.VARIANTS`; None for the code as it is.
        aim: kill from outside.
        cut: end from inside, after a file operation.
        die_at: end from inside, after a step (epoch, step).
        die_in: end from inside, when a phase is entered for the n-th time.
    """

    root: str
    kind: str = "train"
    recipe: str = "adamw"
    broken: str | None = None
    aim: Aim | None = None
    cut: Cut | None = None
    die_at: tuple[int, int] | None = None
    die_in: tuple[str, int] | None = None


@dataclass(frozen=True)
class Report:
    """What became of an attempt.

    Attributes:
        ending: "finished", "killed", "failed" or "hung".
        phase: the last one that it told of.
        seconds: from the fork.
        marks: (seconds, "> phase" or "< phase").
        said: the end of what it said, where it failed.
    """

    ending: str
    phase: str
    seconds: float
    marks: list[tuple[float, str]] = field(default_factory=list)
    said: str = ""


class Zygote:
    """The other end of the pipe.

    Args:
        cache: `HISTO_MLFLOW_CACHE` of all trainings.
        log: where the process tells of its own troubles.
    """

    def __init__(self, cache: Path, log: Path) -> None:
        here = Path(__file__).parents[1]
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")},
            "HISTO_MLFLOW_CACHE": str(cache),
            "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def run(self, order: Order) -> Report:
        """Have one attempt made, and wait for its end.

        Raises:
            RuntimeError: the process is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the zygote is gone; see {self._log.name}")
        return Report(**json.loads(line))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._log.close()


def serve() -> None:
    """Take orders from stdin until it ends."""
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    import torch

    import histo_mlflow.cli.train
    import histo_mlflow.jobs.train  # noqa: F401
    from harness import fileops, job, variants  # noqa: F401

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        raw: dict[str, Any] = json.loads(line)
        for name, kind in (("aim", Aim), ("cut", Cut), ("die_at", tuple), ("die_in", tuple)):
            if raw[name] is not None:
                raw[name] = kind(raw[name]) if kind is tuple else kind(**raw[name])
        report = _attempt(Order(**raw))
        answers.write(json.dumps(asdict(report)) + "\n")
        answers.flush()


def _attempt(order: Order) -> Report:
    reader, writer = os.pipe()
    log = Path(order.root) / "log.txt"
    size = log.stat().st_size if log.exists() else 0
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(order, writer)
    os.close(writer)
    try:
        watched = _watch(pid, reader, order.aim, begun)
    finally:
        os.close(reader)
    if watched.ending == "failed":
        said = log.read_bytes()[size:].decode(errors="replace")[-3000:]
        return Report(**{**asdict(watched), "said": said})
    return watched


def _watch(pid: int, reader: int, aim: Aim | None, begun: float) -> Report:
    """Follow a child to its end, and kill it when its time has come."""
    ended = os.pidfd_open(pid)
    told = b""
    marks: list[tuple[float, str]] = []
    deadline = begun + aim.seconds if aim and not aim.phase else None
    hung = False
    alive = True
    while alive:
        now = time.monotonic()
        limit = begun + PATIENCE if deadline is None else deadline
        if now >= limit:
            hung = deadline is None
            os.kill(pid, signal.SIGKILL)
            deadline = begun + 2 * PATIENCE
        ready, _, _ = select.select([reader, ended], [], [], max(0.0, limit - now))
        alive = ended not in ready
        if reader in ready:
            told += os.read(reader, 65536)
            *lines, told = told.split(b"\n")
            marks += [(time.monotonic() - begun, line.decode()) for line in lines]
            if aim and aim.phase and deadline is None:
                entered = [at for at, text in marks if text == f"> {aim.phase}"]
                if len(entered) >= aim.nth:
                    deadline = begun + entered[aim.nth - 1] + aim.seconds
    seconds = time.monotonic() - begun
    while part := os.read(reader, 65536):
        told += part
    marks += [(seconds, line.decode()) for line in told.split(b"\n") if line]
    os.close(ended)
    _, status = os.waitpid(pid, 0)
    if hung:
        ending = "hung"
    elif os.WIFSIGNALED(status):
        ending = "killed" if os.WTERMSIG(status) == signal.SIGKILL else "failed"
    else:
        ending = "finished" if os.WEXITSTATUS(status) == 0 else "failed"
    return Report(ending, _phase([text for _, text in marks]), seconds, marks)


def _phase(marks: list[str]) -> str:
    """The innermost phase that was entered and not left."""
    stack = ["connecting"]
    for mark in marks:
        direction, name = mark.split(" ", 1)
        if direction == ">":
            stack.append(name)
        elif name in stack:
            del stack[len(stack) - 1 - stack[::-1].index(name)]
    if stack == ["connecting"] and marks:
        return "between"
    return stack[-1]


def _child(order: Order, writer: int) -> None:
    status = 1
    try:
        Path(order.root).mkdir(parents=True, exist_ok=True)
        log = os.open(Path(order.root, "log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _obey(order, writer)
        status = 0
    except BaseException:  # noqa: BLE001 - told in the log, and by the exit status
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _obey(order: Order, writer: int) -> None:
    from harness import fileops, job, phases, variants

    if order.kind == "prepare":
        job.prepare(Path(order.root) / "fresh.db")
        return
    place = job.Place(Path(order.root))
    if order.broken is not None:
        variants.VARIANTS[order.broken].apply()
    if order.kind == "break":
        return
    if order.cut is not None:
        fileops.install(place, order.cut)
    job.trace(place, order.die_at)
    phases.tell(writer, order.die_in)
    job.work(order.kind, order.recipe, place)


if __name__ == "__main__":
    serve()
