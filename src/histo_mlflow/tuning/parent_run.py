"""The parent run of a study: made once, found again by every command that works on the study."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic, sleep

import optuna

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import Store
from histo_mlflow.tuning.shared import attributes as name

OTHERS_SECONDS = 15.0
"""The longest that the parent run is waited for which another command is about to make."""


def open_parent(
    study: optuna.Study,
    store: Store,
    *,
    new: bool,
    key: str,
    run_name: str,
    params: Mapping[str, object],
    tags: Mapping[str, object],
) -> TrackedRun:
    """Make the parent run of a study, or go on with it.

    Under `mlflow run` the run that it made is the parent of a study that is new. One that goes on
    with a study has a parent already; its own run says so (`open_command`).

    Args:
        study: from `joining`.
        store: where the run is, or is made.
        new: this command made the study.
        key: of the run.
        run_name: for a run that has to be made.
        params: of the study.
        tags: of the study.

    Raises:
        TrackingError: the store failed, or it is not the one in which the study was begun.
    """
    known = study.user_attrs.get(name.PARENT)
    deadline = monotonic() + OTHERS_SECONDS
    while known is None and not new and monotonic() < deadline:
        sleep(0.5)
        known = study.user_attrs.get(name.PARENT)
    try:
        run = start_run(
            store,
            study.user_attrs[name.EXPERIMENT],
            run_name,
            {} if known else params,
            tags,
            run_id=known,
            follow_project=known is None,
            system_metrics=False,  # it does not train
            key=None if known else key,
        )
    except TrackingError as error:
        if known is not None:
            error.add_note(
                f"the study {study.study_name} was begun with run {known}: give the --tracking-uri "
                "that it was begun with, or give a new study another --name"
            )
        raise
    if known is None:
        found = store.ask(
            "looking at the run", lambda: store.client.get_experiment(run.experiment_id)
        )
        # Under `mlflow run` it lies elsewhere than was asked for. The parent is told last: once it
        # is known, others begin its children where the study says that it lies.
        study.set_user_attr(name.EXPERIMENT, str(found.name))
        study.set_user_attr(name.PARENT, run.run_id)
    return run


@contextmanager
def open_command(store: Store, parent: TrackedRun, study_name: str) -> Iterator[None]:
    """The run of an `mlflow run` that goes on with a study whose parent is another run.

    It is closed as the command ends, and its tags and note say where to look.
    """
    own = os.environ.get("MLFLOW_RUN_ID")
    if not own or own == parent.run_id:
        yield
        return
    tags = {
        "histo.study": study_name,
        "histo.study.parent": parent.run_id,
        "mlflow.note.content": f"Went on with the study {study_name}, run {parent.run_id}.",
    }
    with start_run(store, "", None, {}, tags, run_id=own, system_metrics=False):
        yield
