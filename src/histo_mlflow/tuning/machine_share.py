"""What this machine gives each worker: how many there are, their threads and devices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from histo_mlflow.device import available_cores
from histo_mlflow.errors import StudyError
from histo_mlflow.recipe import Recipe, build

MOST_WORKERS = 512


def how_many(workers: str, device: str) -> int:
    """The number of worker processes for `--workers`.

    Args:
        workers: a number, or "auto": one for each GPU; on a CPU two, which share its cores: what
            one does besides computing leaves cores idle that the other has use for.
        device: as the recipe names it.

    Raises:
        StudyError: it is neither.
    """
    if workers != "auto":
        if not workers.isdecimal() or not 1 <= int(workers) <= MOST_WORKERS:
            raise StudyError(
                f"Expected --workers to be a number from 1 to {MOST_WORKERS}, or auto, "
                f"got {workers!r}."
            )
        return int(workers)
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and not torch.backends.mps.is_available()):
        return min(2, available_cores())
    return 1


def with_threads(base: Recipe, workers: int) -> Recipe:
    """The recipe on this machine's share of threads for one worker, where it names no number."""
    if base.machine.threads or os.environ.get("OMP_NUM_THREADS"):
        return base
    threads = max(1, available_cores() // workers)
    return build(base.model_dump(mode="json"), {"threads": threads}, where=base.name)


def whole_machine(base: Recipe, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a training that no worker runs beside: all threads, unless a number is named."""
    if base.machine.threads or os.environ.get("OMP_NUM_THREADS"):
        return dict(plan)
    return {**plan, "threads": available_cores()}


def devices_of(base: Recipe, device: str) -> list[str]:
    """Of the workers in turn: all GPUs, unless the recipe names one."""
    if device.startswith("cuda") and base.machine.device in ("auto", "cuda"):
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [device]
