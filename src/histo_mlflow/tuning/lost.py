"""The runs of trials that lost too many lives: whoever finds that out closes them."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.lifecycle import close_run, run_of_key
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import ending_of
from histo_mlflow.tuning.site import Site


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
    """Close what runs a trial has that lost too many lives; nobody else will.

    They are found by their keys: its worker may have died before it could note the run's id.
    """
    attributes, store = study.user_attrs, site.store
    key = f"{attributes[name.KEY]}-{number}"
    folds = range(site.definition.folds or 0)
    for one in (key, *(f"{key}-fold{fold}" for fold in folds)):
        found = run_of_key(store, attributes[name.EXPERIMENT], one)
        if found is None or (one != key and found.info.status == "FINISHED"):
            continue
        if if_open and found.info.status != "RUNNING":
            continue
        tags = {
            name.STATE_TAG: "failed",
            # Those that its worker gives it last.
            "histo.study": study.study_name,
            "histo.study.trial": number,
            **({"mlflow.parentRunId": site.parent.run_id} if one == key else {}),
        }
        close_run(store, found.info.run_id, "failed", cause, tags=tags)
