"""A training ends with the `mlflow run` that started it.

SIGTERM ends `mlflow run` and leaves its child alone in the world, where nobody sees it train on.
The child looks after its parent instead. A shell that ends after `nohup histo-mlflow train &` is no
reason to stop.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import psutil

LOOK_SECONDS = 1.0
LISTENER_LOOKS = 30
"""So often an end is kept to itself while nobody listens who could close the run: imports go on."""
GONE = "the `mlflow run` that started this training is gone"
_told: list[Callable[[], None]] = []


def project_runner(started_by: str | None = None) -> psutil.Process | None:
    """Who started this process for an MLflow project, if anybody.

    Args:
        started_by: the process id that the project's command gives, `$PPID` of its shell; text that
            is no number is what a shell leaves that does not know it. Without it, the nearest
            ancestor that is called `mlflow`, for a process that has been given a run.

    Raises:
        ProcessLookupError: it is gone already.
    """
    ancestors = psutil.Process().parents()
    # A shell whose parent is gone is a child of process 1.
    if started_by is not None and started_by.isdecimal() and started_by != "1":
        for ancestor in ancestors:
            if ancestor.pid == int(started_by):
                return ancestor
        raise ProcessLookupError(f"process {started_by} is no ancestor of this one any more")
    if not os.environ.get("MLFLOW_RUN_ID"):
        return None
    for ancestor in ancestors:
        try:
            words = ancestor.cmdline()
        except psutil.Error:  # gone, or somebody else's
            continue
        if any(os.path.basename(word) in ("mlflow", "mlflow.exe") for word in words[:3]):  # noqa: PTH119
            return ancestor
    return None


@contextmanager
def ending_with_parent(
    on_gone: Callable[[], None] = lambda: None, *, started_by: str | None = None
) -> Iterator[None]:
    """While open, the end of `mlflow run` calls `on_gone` and sends this process a SIGTERM.

    Within another one it is the outer that watches: one end, one SIGTERM, whoever is told of it.

    Args:
        on_gone: called before the SIGTERM.
        started_by: see `project_runner`.
    """
    _told.append(on_gone)
    try:
        with _watch(started_by) if len(_told) == 1 else nullcontext():
            yield
    finally:
        _told.remove(on_gone)


def _watch(started_by: str | None) -> AbstractContextManager[None]:
    try:
        runner = project_runner(started_by)
    except ProcessLookupError:
        return _watched(lambda: False)
    return nullcontext() if runner is None else _watched(partial(_alive, runner))


@contextmanager
def _watched(alive: Callable[[], bool]) -> Iterator[None]:
    done = threading.Event()

    def look() -> None:
        looks = 0
        while not done.wait(LOOK_SECONDS):
            if alive():
                continue
            looks += 1
            if len(_told) == 1 and looks < LISTENER_LOOKS:
                continue
            for on_gone in tuple(_told):
                on_gone()
            os.kill(os.getpid(), signal.SIGTERM)
            return

    threading.Thread(target=look, daemon=True, name="histo-mlflow parent").start()
    try:
        yield
    finally:
        done.set()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
