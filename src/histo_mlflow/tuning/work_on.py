"""One study worked on by this command: its slots, its team, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from histo_mlflow.errors import TrackingError
from histo_mlflow.tuning.keeping import keep_best
from histo_mlflow.tuning.lost import close_all_lost, close_all_waiting, close_now_or_later
from histo_mlflow.tuning.order import Order
from histo_mlflow.tuning.report.parent_report import Told, tell_points, tell_tags
from histo_mlflow.tuning.report.progress import Progress
from histo_mlflow.tuning.report.snapshot import look
from histo_mlflow.tuning.report.summary import duration
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.site import Site
from histo_mlflow.tuning.study.space import fixed_params
from histo_mlflow.tuning.study.study_file import StudyFile
from histo_mlflow.tuning.supervise import supervise
from histo_mlflow.tuning.team import Team

REFRESH_SECONDS = 3.0
"""The parent run learns of what has changed this often."""


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
    close_all_lost(site, study, queue.trials())
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
        retries=site.definition.retries,
        on_look=show,
        on_failed=lambda reaped: close_now_or_later(site, study, reaped.number, reaped.cause),
        talk=site.talk,
    )
    found = queue.trials()
    close_all_lost(site, study, found)
    close_all_waiting(site, study, found)
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
    _say_budget_changes(site, study, file)
    parent = _Parent(site)
    with showing(site, study, axes, wall_seconds=file.wall_time) as show:
        found = work_on(
            site,
            study,
            trials=file.slots,
            guesses=[fixed_params(file.space, guess) for guess in file.enqueue],
            wall_seconds=file.wall_time,
            on_look=[show, parent.tell],
        )
        parent.tell(found, last=True)
    return found


def _say_budget_changes(site: Site, study: optuna.Study, file: StudyFile) -> None:
    """Name what this command gives otherwise than the last one: it holds for others at work, too.

    A study that is new has no budget yet.
    """
    kept = study.user_attrs
    for key, attribute, now, unit in (
        ("trials", name.TRIALS, file.slots, str),
        ("wall_time", name.WALL_SECONDS, file.wall_time, duration),
    ):
        if attribute not in kept or kept[attribute] == now:
            continue
        was, given = ("unset" if one is None else unit(one) for one in (kept[attribute], now))
        site.talk.say(
            "changed", f"{key} was {was}, {given} is given; it holds for all who work on the study"
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

    def tell(self, trials: Sequence[FrozenTrial], *, last: bool = False) -> None:
        """Tell it, unless that was done moments ago; the last time in any case."""
        if not last and monotonic() - self._at < REFRESH_SECONDS:
            return
        self._at, run = monotonic(), self._site.parent
        metric, direction = self._site.definition.metric, self._site.definition.direction
        # Kept at once: the points are under way, and not to be told again where the tags fail.
        self._told = tell_points(run, trials, self._told, metric=metric, direction=direction)
        try:
            self._told = tell_tags(run, trials, self._told, direction=direction)
        except TrackingError as error:
            again = "the same command tells it again" if last else "it is told again later"
            self._site.talk.say("WARN", f"{error}; going on, {again}")
