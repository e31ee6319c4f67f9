"""The runs that dead workers left open: whoever finds that out closes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.lifecycle import close_run, run_of_key
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import ending_of
from histo_mlflow.tuning.site import Site

if TYPE_CHECKING:
    from mlflow.entities import Run


def close_now_or_later(site: Site, study: optuna.Study, number: int, cause: str) -> None:
    """`close_lost`; with the store away, at the end: no study ends for it."""
    try:
        close_lost(site, study, number, cause)
    except TrackingError as error:
        site.talk.say("WARN", f"{error}; the run of trial {number} is closed at the end")


def close_all_lost(site: Site, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """`close_lost` of those whose run is open still: the store, or this command, was gone then."""
    for trial in trials:
        lost = trial.user_attrs.get(name.LIVES_LOST, 0)
        if trial.state == TrialState.FAIL and lost and ending_of(trial) == "failed":
            close_lost(
                site, study, trial.number, trial.user_attrs.get(name.CAUSE, ""), if_open=True
            )


def close_lost(
    site: Site, study: optuna.Study, number: int, cause: str, *, if_open: bool = False
) -> None:
    """Close what runs a trial has that lost too many lives; nobody else will."""
    for found, own in _runs_of(site, study, number):
        if not own and found.info.status == "FINISHED":
            continue
        if if_open and found.info.status != "RUNNING":
            continue
        tags = {name.STATE_TAG: "failed", **_last_tags(site, study, number, own=own)}
        close_run(site.store, found.info.run_id, "failed", cause, tags=tags)


def close_all_waiting(site: Site, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Close what runs are open still of trials that wait: their workers died at them.

    For a command that is done with its workers. Who takes such a trial up opens its runs again; one
    that is taken up while its run is closed here has the right status when it ends.
    """
    for trial in trials:
        if trial.state != TrialState.WAITING or name.TAKES not in trial.user_attrs:
            continue
        for found, own in _runs_of(site, study, trial.number):
            if found.info.status != "RUNNING":
                continue
            if site.storage.get_trial(trial._trial_id).state != TrialState.WAITING:
                break  # another command has just taken it
            tags = _last_tags(site, study, trial.number, own=own)
            close_run(site.store, found.info.run_id, "interrupted", "its worker died", tags=tags)


def _runs_of(site: Site, study: optuna.Study, number: int) -> Iterator[tuple[Run, bool]]:
    """What runs a trial has, and whether each is its own or that of a fold.

    They are found by their keys: its worker may have died before it could note the run's id.
    """
    attributes = study.user_attrs
    key = f"{attributes[name.KEY]}-{number}"
    folds = range(site.definition.folds or 0)
    for one in (key, *(f"{key}-fold{fold}" for fold in folds)):
        found = run_of_key(site.store, attributes[name.EXPERIMENT], one)
        if found is not None:
            yield found, one == key


def _last_tags(site: Site, study: optuna.Study, number: int, *, own: bool) -> dict[str, object]:
    """Those that a run's worker gives it last."""
    parent = {"mlflow.parentRunId": site.parent.run_id} if own else {}
    return {"histo.study": study.study_name, "histo.study.trial": number, **parent}
