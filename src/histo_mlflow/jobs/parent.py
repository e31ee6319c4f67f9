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
from contextlib import contextmanager, nullcontext

import psutil

LOOK_SECONDS = 1.0
GONE = "the `mlflow run` that started this training is gone"
_told: list[Callable[[], None]] = []


def project_runner() -> psutil.Process | None:
    """The nearest ancestor that is `mlflow`, for a process that `mlflow run` has given a run."""
    if not os.environ.get("MLFLOW_RUN_ID"):
        return None
    for ancestor in psutil.Process().parents():
        try:
            words = ancestor.cmdline()
        except psutil.Error:  # gone, or somebody else's
            continue
        if any(os.path.basename(word) in ("mlflow", "mlflow.exe") for word in words[:3]):  # noqa: PTH119
            return ancestor
    return None


@contextmanager
def ending_with_parent(on_gone: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While open, the end of `mlflow run` calls `on_gone` and sends this process a SIGTERM.

    Within another one it is the outer that watches: one end, one SIGTERM, whoever is told of it.
    """
    _told.append(on_gone)
    try:
        runner = project_runner() if len(_told) == 1 else None
        with nullcontext() if runner is None else _watched(runner):
            yield
    finally:
        _told.remove(on_gone)


@contextmanager
def _watched(runner: psutil.Process) -> Iterator[None]:
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            if not _alive(runner):
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
