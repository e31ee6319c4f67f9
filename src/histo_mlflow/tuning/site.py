"""What is the same for all that one command trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.store import Store
from histo_mlflow.tuning.shared.queue import Queue, Worker
from histo_mlflow.tuning.shared.storage import Opened
from histo_mlflow.tuning.study.definition import Definition


@dataclass(frozen=True)
class Site:
    """What is the same for all that this command trains.

    Attributes:
        opened: Optuna's storage.
        store: MLflow's.
        title: name of the search.
        experiment: name of the one that the parent run lies in.
        parent: the study's run.
        definition: of the study.
        most_epochs: that a trial can have.
        runs_dir: for the local files of every run.
        folder: for the local files of the parent run.
        plan: device, precision, memory_format and threads of a trial.
        devices: of the workers, in turn.
        workers: how many.
        talk: says what happens.
    """

    opened: Opened
    store: Store
    title: str
    experiment: str
    parent: TrackedRun
    definition: Definition
    most_epochs: int
    runs_dir: Path
    folder: Path
    plan: Mapping[str, Any]
    devices: Sequence[str]
    workers: int
    talk: Talk

    @property
    def storage(self) -> BaseStorage:
        """Optuna's storage."""
        return self.opened.storage

    def queue(self, study: optuna.Study) -> Queue:
        """The queue of a study as this command sees it."""
        return Queue(study, self.storage, Worker.here())
