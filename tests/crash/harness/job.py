"""The training that is killed: tiny, real, and with every kind of state that can be lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import struct
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from histo_mlflow.recipe import Recipe
    from histo_mlflow.training.state import StepRecord

SAVE_EVERY = 3
"""Steps between checkpoints: the first of an epoch falls into the middle of an accumulation."""

_ADAMW: Mapping[str, Mapping[str, Any]] = {
    "data": {"source": "demo", "demo_images": 64},
    "pixels": {"image_px": 32, "fit": "squash"},
    "augment": {"policy": "dihedral", "brightness": 0.2},
    "model": {"model": "test_resnet", "weights": "none", "dropout": 0.3},
    "optimisation": {
        "optimiser": "adamw",
        "lr": 0.003,
        "schedule": "onecycle",
        "frozen_epochs": 1,
        "accumulate": 2,
        "ema_decay": 0.9,
    },
    "training": {"epochs": 6, "batch_size": 6, "patience": 3, "monitor": "val/auc"},
    "machine": {
        "device": "cpu",
        "precision": "fp32",
        "memory_format": "channels_last",
        "threads": 1,
    },
}
_SGD = {
    **_ADAMW,
    "optimisation": {
        "optimiser": "sgd",
        "momentum": 0.9,
        "lr": 0.05,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "accumulate": 3,
        "sampling": "balanced",
        "clip_norm": 1.0,
    },
    "training": {"epochs": 4, "batch_size": 6, "monitor": "val/loss"},
    "machine": {**_ADAMW["machine"], "memory_format": "contiguous"},
}
RECIPES = {"adamw": _ADAMW, "sgd": _SGD}


class Place:
    """Where one run and its store lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.database = root / "mlflow.db"
        self.trace = root / "trace.txt"
        self.log = root / "log.txt"

    def make(self, database: Path) -> Place:
        """A fresh folder with a store of its own."""
        self.root.mkdir(parents=True)
        shutil.copy(database, self.database)
        return self

    def copy(self, root: Path) -> Place:
        """The same state at another place; only for runs without a store."""
        shutil.copytree(self.root, root)
        return Place(root)


def recipe(name: str) -> Recipe:
    """One of `RECIPES`."""
    from histo_mlflow.recipe import build

    return build({"name": "crash", **RECIPES[name]}, {}, where=name)


def work(kind: str, recipe_name: str, place: Place) -> None:
    """Train to the end, or go on: a "train" is the whole job, a "loop" its epochs alone."""
    if kind == "train":
        _train(recipe_name, place)
    else:
        _loop(recipe_name, place)


def prepare(database: Path) -> None:
    """Make what all runs share: the images and their pack, and an empty store."""
    from histo_mlflow.jobs.ready import get_ready
    from histo_mlflow.jobs.talk import Talk
    from histo_mlflow.tracking.store import connect

    connect(f"sqlite:///{database}")
    for name in RECIPES:
        get_ready(recipe(name), talk=Talk(quiet=True))


def trace(place: Place, die_at: tuple[int, int] | None) -> None:
    """Note every step in a file: its place, its images and its loss, bit for bit.

    Args:
        place: where.
        die_at: SIGKILL after the step (epoch, step), both from 1, and whatever follows it.
    """
    from histo_mlflow.jobs.epochs import Epochs

    original = Epochs._after_step

    def after_step(self: Epochs, record: StepRecord, bar: Any) -> None:
        images = hashlib.sha256(record.index.astype("int64").tobytes()).hexdigest()[:16]
        loss = struct.pack("<f", float(record.loss)).hex()
        line = f"{record.epoch} {record.step} {images} {loss}\n"
        descriptor = os.open(place.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        original(self, record, bar)
        if die_at == (record.epoch, record.step):
            os.kill(os.getpid(), signal.SIGKILL)

    Epochs._after_step = after_step  # type: ignore[method-assign]


def _policy() -> Any:
    from histo_mlflow.jobs.epochs import CheckpointPolicy

    return CheckpointPolicy(seconds=1e9, steps=SAVE_EVERY)


def _blank_pictures() -> None:
    """Every picture is one blank file, written where and when the real one would be.

    Drawing is a third of what a training here costs, and what a picture shows says nothing of how
    a run goes on: its file is there or not, and in the store as here or not.
    """
    from matplotlib.figure import Figure

    def savefig(self: Figure, path: Path, **_: Any) -> None:
        path.write_bytes(b"a picture")

    Figure.savefig = savefig  # type: ignore[assignment,method-assign]


def _train(recipe_name: str, place: Place) -> None:
    from histo_mlflow.jobs import train as job
    from histo_mlflow.jobs.talk import Talk

    _blank_pictures()
    job.train(
        recipe(recipe_name),
        run_dir=place.run,
        tracking_uri=f"sqlite:///{place.database}",
        checkpoints=_policy(),
        doctor_level=None,
        pictures=False,  # test_pictures.py looks after them
        talk=Talk(),
    )


def _loop(recipe_name: str, place: Place) -> None:
    """The run's own `Epochs` with a real journal, and nothing that needs a store."""
    from histo_mlflow.jobs import ready as ready_module
    from histo_mlflow.jobs.epochs import Epochs
    from histo_mlflow.jobs.run_folder import RunFolder
    from histo_mlflow.jobs.talk import Talk
    from histo_mlflow.tracking.journal import Journal
    from histo_mlflow.tracking.outbox import Point

    class Signals:
        torn = False
        whole = staticmethod(nullcontext)

    class Journalled:
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
            self.journal.append([Point(key, value, 0, step) for key, value in metrics.items()])

    ready_module.collect = lambda *_: None  # type: ignore[assignment,return-value]
    ready = ready_module.get_ready(recipe(recipe_name), talk=Talk(quiet=True))
    folder = RunFolder(place.run)
    place.run.mkdir(parents=True, exist_ok=True)
    run = Journalled(Journal(folder.journal))
    signals: Any = Signals()
    Epochs(run, ready.trainable(), folder, _policy(), signals, talk=Talk()).train()  # type: ignore[arg-type]
    run.journal.close()
