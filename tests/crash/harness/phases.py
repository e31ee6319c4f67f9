"""What a process is doing, told through a pipe, so that a kill can be aimed at it and counted."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

_PHASES = (
    ("readying", "histo_mlflow.jobs.train", "get_ready"),
    ("making the run", "histo_mlflow.jobs.opening", "find_or_make"),
    ("noting the run", "histo_mlflow.jobs.run_folder", "RunFolder.write_facts"),
    ("starting the run", "histo_mlflow.jobs.train", "start_run"),
    ("resuming", "histo_mlflow.jobs.epochs", "Epochs._resume"),
    ("begin artifacts", "histo_mlflow.jobs.train", "log_beginning"),
    ("uploading", "histo_mlflow.tracking.run", "TrackedRun.log_artifacts"),
    ("sending files", "mlflow.tracking.client", "MlflowClient.log_artifacts"),
    ("steps", "histo_mlflow.training.loop", "_train_epoch"),
    ("validating", "histo_mlflow.training.loop", "predict_logits"),
    ("journal", "histo_mlflow.tracking.journal", "Journal.append"),
    ("best weights", "histo_mlflow.training.checkpoint", "Checkpoints.save_best"),
    ("checkpoint", "histo_mlflow.training.checkpoint", "Checkpoints.save"),
    ("outcome", "histo_mlflow.jobs.train", "conclude"),
    ("writing the model", "histo_mlflow.jobs.outcome", "write_model_folder"),
    ("model logging", "histo_mlflow.registry.log_model", "log_once"),
    ("noting delivery", "histo_mlflow.jobs.run_folder", "RunFolder.note_delivered"),
    ("ending", "histo_mlflow.tracking.run", "TrackedRun.end"),
    ("closing the run", "histo_mlflow.tracking.run", "close_run"),
)
NAMES = ("connecting", *(name for name, *_ in _PHASES))


def tell(descriptor: int, die_in: tuple[str, int] | None = None) -> None:
    """Write "> name" and "< name" to a pipe whenever a phase is entered and left.

    With `die_in` the process ends itself when that phase is entered for the n-th time.
    """
    for name, module, attribute in _PHASES:
        dies = die_in[1] if die_in and die_in[0] == name else None
        wrap(module, attribute, functools.partial(_telling, descriptor, name, dies))


def wrap(module: str, attribute: str, change: Callable[[Any], Any]) -> None:
    """Replace a function or a method by `change(it)`."""
    import importlib

    owner: Any = importlib.import_module(module)
    *classes, name = attribute.split(".")
    for part in classes:
        owner = getattr(owner, part)
    setattr(owner, name, change(getattr(owner, name)))


def _telling(
    descriptor: int, name: str, dies: int | None, original: Callable[..., Any]
) -> Callable[..., Any]:
    times = itertools.count(1)

    @functools.wraps(original)
    def told(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name == "histo-mlflow system":
            return original(*args, **kwargs)
        os.write(descriptor, f"> {name}\n".encode())
        if next(times) == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return original(*args, **kwargs)
        finally:
            os.write(descriptor, f"< {name}\n".encode())

    return told
