"""What a worker process works with: the study, its queue, both stores and the data."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial

from histo_mlflow.errors import StudyError
from histo_mlflow.jobs.development import Developments
from histo_mlflow.jobs.signals import Ending as SignalEnding
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.store import Store, connect
from histo_mlflow.tuning.joining import find
from histo_mlflow.tuning.keeping import keep_best
from histo_mlflow.tuning.order import Order
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import Queue, Worker
from histo_mlflow.tuning.shared.storage import open_storage
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.pruners import make_pruner
from histo_mlflow.tuning.study.samplers import make_sampler
from histo_mlflow.tuning.study.space import Space


@dataclass(frozen=True)
class Workplace:
    """Everything that a trial needs but its own params.

    Attributes:
        study: as Optuna has it.
        storage: that it is in.
        queue: of its trials.
        definition: what the study is.
        base: the recipe that every trial varies.
        axes: what is searched.
        store: of MLflow.
        runs_dir: the trials' local files go to folders of their runs' ids in here.
        plan: device, precision, memory_format and threads of every trial that is begun here.
        data: prepared once for all trials of the same images at the same size.
        signals: whoever interrupts waits for what must stay whole.
        talk: says nothing; what is wrong is raised.
    """

    study: optuna.Study
    storage: BaseStorage
    queue: Queue
    definition: Definition
    base: Recipe
    axes: Space
    store: Store
    runs_dir: Path
    plan: Mapping[str, Any]
    data: Developments
    signals: SignalEnding
    talk: Talk

    @property
    def title(self) -> str:
        """Name of the study."""
        return str(self.study.study_name)

    def attribute(self, which: str) -> Any:
        """A user attribute of the study."""
        return self.study.user_attrs[which]

    def claim(self) -> Trial | None:
        """Take a trial, sampled as the study says for its number; None if there is none now."""
        return self.queue.claim(self._before_sampling)

    def time_is_up(self) -> bool:
        """Whether no further trial is to be begun."""
        return self.queue.time_is_up()

    def key(self, trial: Trial) -> str:
        """What finds the trial's child run again."""
        return f"{self.attribute(name.KEY)}-{trial.number}"

    def tags(self, trial: Trial) -> dict[str, object]:
        """What every run of the trial says of itself."""
        return {
            "histo.study": self.title,
            "histo.study.kind": self.attribute(name.KIND),
            "histo.study.trial": trial.number,
        }

    def reported(self, trial: Trial) -> Mapping[int, float]:
        """Step -> value of what was reported, in earlier lives too."""
        found: FrozenTrial = self.storage.get_trial(trial._trial_id)
        return found.intermediate_values

    def keep_best(self) -> None:
        """Remove the checkpoints of all ended trials but the best few, where they lie here."""
        keep_best(
            self.queue.trials(),
            self.runs_dir,
            keep=self.definition.keep,
            direction=self.definition.direction,
        )

    def _before_sampling(self, number: int) -> None:
        if self.attribute(name.KIND) == "search":
            self.study.sampler = make_sampler(
                self.definition.sampler_spec(),
                self.axes,
                seed=self.definition.seed,
                number=number,
                reports="epoch" if self.definition.folds is None else "fold",
            )


def open_workplace(order: Order, signals: SignalEnding) -> Workplace:
    """Open what a worker needs, from its order alone.

    Raises:
        StudyError: the storage cannot be reached, or the study is not in it.
        TrackingError: MLflow's store cannot be reached.
    """
    store = connect(order.tracking_uri, make=False)
    opened = open_storage(order.storage, tracking_uri=store.tracking_uri, make=False)
    study = find(opened.storage, order.study)
    if study is None:
        raise StudyError(f"Expected the study {order.study} in {opened.shown_url}, found none.")
    definition = Definition.from_json(order.definition)
    if study.user_attrs[name.KIND] == "search":
        study.pruner = make_pruner(definition.pruner_spec(), epochs=order.most_epochs)
    else:
        study.pruner = optuna.pruners.NopPruner()
    worker = Worker(order.worker, socket.gethostname(), os.getpid())
    talk = Talk(quiet=True)
    return Workplace(
        study=study,
        storage=opened.storage,
        queue=Queue(study, opened.storage, worker),
        definition=definition,
        base=definition.base(),
        axes=definition.axes(),
        store=store,
        runs_dir=Path(order.runs_dir),
        plan=order.plan,
        data=Developments(talk=talk),
        signals=signals,
        talk=talk,
    )
