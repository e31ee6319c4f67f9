"""How a run begins and ends in the store: found or made, opened again, closed under its name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from histo_mlflow.errors import TrackingError
from histo_mlflow.tracking.delivery import UNDELIVERED_TAG, remove_tag
from histo_mlflow.tracking.entries import TAG_CHARACTERS, named, source_tags
from histo_mlflow.tracking.params import differences
from histo_mlflow.tracking.store import Store, experiment_id

if TYPE_CHECKING:
    from mlflow.entities import Run

Ending = Literal["finished", "early_stopped", "pruned", "interrupted", "failed"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)
# "FINISHED" in MLflow is kept for runs that came to their own end.
_STATUS: dict[Ending, str] = {
    "finished": "FINISHED",
    "early_stopped": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
WHOLE: frozenset[Ending] = frozenset({"finished", "early_stopped"})
SETTLED: frozenset[Ending] = WHOLE | {"pruned"}
"""Nothing goes on from there, so all that was logged has to be in the store."""

KEY_TAG = "histo.key"
_ENDING_TAGS = ("histo.ending", "histo.cause", UNDELIVERED_TAG)
_ATTEMPTS = 2
_PAUSE_SECONDS = 1.0


def find_or_make(
    store: Store,
    experiment: str,
    run_name: str | None,
    *,
    run_id: str | None,
    follow_project: bool,
    key: str | None,
) -> tuple[Run, bool]:
    """The run to write, and whether it was there before; the arguments are `start_run`'s.

    Raises:
        TrackingError: the store failed.
    """
    run_id = run_id or (os.environ.get("MLFLOW_RUN_ID") if follow_project else None)
    if run_id:
        return existing_run(store, run_id), True
    if key is not None and (found := run_of_key(store, experiment, key)) is not None:
        return found, True
    return new_run(store, experiment, run_name, key), False


def refuse_other_params(found: Run, given: Mapping[str, str]) -> None:
    """Compare texts of params with those that a run has; params it has not are no difference.

    Raises:
        TrackingError: naming every difference.
    """
    if different := differences(found.data.params, given):
        raise TrackingError(
            f"run {found.info.run_id} cannot be continued with other params than it has: "
            f"{'; '.join(different)}. Give the values that it has, or start a new run"
        )


def existing_run(store: Store, run_id: str) -> Run:
    """The run of that id.

    Raises:
        TrackingError: it is not in this store or was deleted, or the store failed.
    """
    found = store.ask(f"continuing run {run_id}", lambda: store.client.get_run(run_id))
    if found.info.lifecycle_stage != "active":
        raise TrackingError(
            f"run {run_id} was deleted; restore it with `mlflow runs restore`, or start a "
            "new run with MLFLOW_RUN_ID unset"
        )
    return found


def run_of_key(store: Store, experiment: str, key: str) -> Run | None:
    """The run of an experiment that carries the key in its tag `histo.key`.

    Args:
        store: from `connect`.
        experiment: name; need not exist.
        key: without quotation marks.

    Raises:
        TrackingError: the store failed.
    """
    if "'" in key or '"' in key:
        raise ValueError(f"a key should be free of quotation marks, got {key}")

    def look() -> Run | None:
        found = store.client.get_experiment_by_name(experiment)
        if found is None:
            return None
        runs = store.client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{KEY_TAG}` = '{key}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return runs[0] if runs else None

    return store.ask(f"looking for the run of key {key}", look)


def new_run(store: Store, experiment: str, run_name: str | None, key: str | None) -> Run:
    """Make a run. With a key never a second one: it is looked for before each attempt.

    Raises:
        TrackingError: the store refused or failed.
    """
    where = experiment_id(store, experiment)
    if key is None:
        return store.ask(
            "starting a run",
            lambda: store.client.create_run(where, tags=source_tags(), run_name=run_name),
        )
    for attempt in range(_ATTEMPTS):
        if (found := run_of_key(store, experiment, key)) is not None:
            return found
        try:
            made = store.ask("starting a run", lambda: _make_once(store, where, run_name, key))
        except TrackingError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return existing_run(store, made)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _make_once(store: Store, where: str, run_name: str | None, key: str) -> str:
    """The id of a new run, from a request that is sent once; the tag comes with the run."""
    tags = {**source_tags(), KEY_TAG: key}
    if not store.is_server:
        made = store.client.create_run(where, tags=tags, run_name=run_name)
        return str(made.info.run_id)
    body = {
        "experiment_id": where,
        "start_time": int(time.time() * 1000),
        "user_id": tags["mlflow.user"],
        "tags": [{"key": name, "value": value} for name, value in tags.items()],
        **({"run_name": run_name} if run_name else {}),
    }
    return str(store.post_once("runs/create", body)["run"]["info"]["run_id"])


def reopen_run(store: Store, found: Run) -> None:
    """Make a run RUNNING again and take away what told of its earlier ending.

    Raises:
        TrackingError: the store refused or failed.
    """
    run_id = found.info.run_id
    if found.info.status != "RUNNING":
        store.ask("resuming a run", lambda: store.client.update_run(run_id, "RUNNING"))
    for tag in _ENDING_TAGS:
        if tag in found.data.tags:
            store.ask("resuming a run", partial(remove_tag, store, run_id, tag))


def is_closed(store: Store, run_id: str, ending: Ending) -> bool:
    """Whether the store says of a run that it ended so.

    `mlflow run --run-id` of a run that is finished, with a mistake in it, makes it FAILED again.

    Raises:
        TrackingError: the store failed.
    """
    run = existing_run(store, run_id)
    return bool(run.info.status == _STATUS[ending] and run.data.tags.get("histo.ending") == ending)


def close_run(
    store: Store,
    run_id: str,
    ending: Ending,
    cause: str | None = None,
    *,
    undelivered: int | None = None,
    tags: Mapping[str, object] = MappingProxyType({}),
    seconds: float = 30.0,
) -> None:
    """Write how a run ended; can be done again.

    A cause that is there from an earlier ending is taken away: several commands close the run of a
    study, and one that was interrupted does not tell how it came out.

    Args:
        store: from `connect`.
        run_id: the run.
        ending: becomes the status and the tag `histo.ending`.
        cause: one sentence, as the tag `histo.cause`.
        undelivered: metric points that did not arrive, as the tag `histo.undelivered`; None where
            the caller has not counted them, and the tag stays as it is.
        tags: further ones, set by the same request.
        seconds: the longest wait.

    Raises:
        TrackingError: the store refused, failed or did not answer.
    """
    from mlflow.entities import RunTag

    told = {key: str(value)[:TAG_CHARACTERS] for key, value in named(tags).items()}
    told["histo.ending"] = ending
    if cause:
        told["histo.cause"] = cause[:TAG_CHARACTERS]
    if undelivered:
        told[UNDELIVERED_TAG] = str(undelivered)
    kept = {UNDELIVERED_TAG} if undelivered is None else set()
    outdated = set(_ENDING_TAGS) - told.keys() - kept

    def close() -> None:
        store.client.log_batch(run_id, tags=[RunTag(key, text) for key, text in told.items()])
        if outdated:
            for tag in outdated & store.client.get_run(run_id).data.tags.keys():
                remove_tag(store, run_id, tag)
        store.client.set_terminated(run_id, _STATUS[ending])

    store.ask(f"closing run {run_id}", close, seconds)
