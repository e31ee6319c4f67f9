"""One study worked on by this command: its slots, its team, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from histo_mlflow.errors import TrackingError
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.lifecycle import close_run, run_of_key
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.store import Store
from histo_mlflow.tuning.keeping import keep_best
from histo_mlflow.tuning.limits import Limits
from histo_mlflow.tuning.order import Order
from histo_mlflow.tuning.report.parent_report import Told, refresh
from histo_mlflow.tuning.report.progress import Progress
from histo_mlflow.tuning.report.snapshot import look
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import Queue, Reaped, Worker
from histo_mlflow.tuning.shared.storage import Opened
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.space import fixed_params
from histo_mlflow.tuning.study.study_file import StudyFile
from histo_mlflow.tuning.supervise import supervise
from histo_mlflow.tuning.team import Team

REFRESH_SECONDS = 3.0
"""The parent run learns of what has changed this often."""


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


def work_on(
    site: Site,
    study: optuna.Study,
    *,
    trials: int | None,
    guesses: Sequence[Mapping[str, Any]],
    wall_seconds: float | None,
    on_look: Sequence[Callable[[Sequence[FrozenTrial]], None]],
) -> list[FrozenTrial]:
    """Work on a study until its budget is used up; what became of its trials.

    Args:
        site: see there.
        study: made or joined.
        trials: how many there are to be in all; None for no limit.
        guesses: params to be tried first.
        wall_seconds: no trial is begun after so long at work in all; None for no limit.
        on_look: are shown all trials, twice a second and at the end.

    Raises:
        StudyError: nobody can go on, or the storage failed.
        Interrupted: the trials are saved and given back.
    """
    queue = site.queue(study)
    study.set_user_attr(name.WALL_SECONDS, wall_seconds)
    queue.fill(trials, guesses)
    order = Order(
        worker="",
        storage=site.opened.url,
        study=study.study_name,
        tracking_uri=site.store.tracking_uri,
        runs_dir=str(site.runs_dir),
        definition=site.definition.to_json(),
        most_epochs=site.most_epochs,
        plan=site.plan,
        started_by=0,
    )

    def show(found: Sequence[FrozenTrial]) -> None:
        for one in on_look:
            one(found)

    supervise(
        queue,
        Team(site.workers, order, site.devices, site.folder / "workers"),
        Limits(site.definition.retries, wall_seconds),
        on_look=show,
        on_failed=lambda reaped: close_lost(site, study, reaped),
        talk=site.talk,
    )
    found = queue.trials()
    keep_best(found, site.runs_dir, keep=site.definition.keep, direction=site.definition.direction)
    show(found)
    return found


def searched(site: Site, study: optuna.Study, file: StudyFile) -> list[FrozenTrial]:
    """Work on a search until its budget is used up, and show how far it is.

    Args:
        site: see there.
        study: made or joined.
        file: budget and first guesses.

    Raises:
        StudyError: nobody can go on, or the storage failed.
        Interrupted: the trials are saved and given back.
    """
    axes = tuple(site.definition.space)
    with showing(site, study, axes, wall_seconds=file.wall_time) as show:
        return work_on(
            site,
            study,
            trials=file.slots,
            guesses=[fixed_params(file.space, guess) for guess in file.enqueue],
            wall_seconds=file.wall_time,
            on_look=[show, _Parent(site).tell],
        )


@contextmanager
def showing(
    site: Site, study: optuna.Study, axes: Sequence[str], *, wall_seconds: float | None
) -> Iterator[Callable[[Sequence[FrozenTrial]], None]]:
    """What shows how far a study is: a table in place at a terminal, lines elsewhere."""
    queue, definition = site.queue(study), site.definition
    folds = definition.folds if study.user_attrs[name.KIND] == "search" else None
    known = {trial.number for trial in queue.trials() if trial.state.is_finished()}
    with Progress(site.talk, known=known) as progress:

        def show(trials: Sequence[FrozenTrial]) -> None:
            progress.tell(trials, metric=definition.metric, axes=axes)
            if not progress.due():
                return
            progress.show(
                look(
                    study.study_name,
                    trials,
                    metric=definition.metric,
                    direction=definition.direction,
                    steps=folds or site.most_epochs,
                    limit=queue.limit(),
                    used_seconds=queue.active_seconds(),
                    wall_seconds=wall_seconds,
                    workers=site.workers,
                    step="epoch" if folds is None else "fold",
                    axes=axes,
                )
            )

        yield show


class _Parent:
    """Tells the parent run what has changed, now and then; an outage costs the study nothing."""

    def __init__(self, site: Site) -> None:
        self._site, self._told, self._at = site, Told(), 0.0

    def tell(self, trials: Sequence[FrozenTrial]) -> None:
        over = all(trial.state.is_finished() for trial in trials)
        if not over and monotonic() - self._at < REFRESH_SECONDS:
            return
        self._at, definition = monotonic(), self._site.definition
        try:
            self._told = refresh(
                self._site.parent,
                trials,
                self._told,
                metric=definition.metric,
                direction=definition.direction,
            )
        except TrackingError as error:
            self._site.talk.say("WARN", f"{error}; going on, it is told again later")


def close_lost(site: Site, study: optuna.Study, reaped: Reaped) -> None:
    """Close what runs a trial has that lost too many lives; nobody else will.

    They are found by their keys: its worker may have died before it could note the run's id.
    """
    attributes, store = study.user_attrs, site.store
    key = f"{attributes[name.KEY]}-{reaped.number}"
    folds = range(site.definition.folds or 0)
    for one in (key, *(f"{key}-fold{fold}" for fold in folds)):
        found = run_of_key(store, attributes[name.EXPERIMENT], one)
        if found is None or (one != key and found.info.status == "FINISHED"):
            continue
        tags = {
            name.STATE_TAG: "failed",
            # Those that its worker gives it last.
            "histo.study": study.study_name,
            "histo.study.trial": reaped.number,
            **({"mlflow.parentRunId": site.parent.run_id} if one == key else {}),
        }
        close_run(store, found.info.run_id, "failed", reaped.cause, tags=tags)
