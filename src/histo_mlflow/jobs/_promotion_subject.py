"""Which model and run a user means who wants something promoted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from histo_mlflow.errors import PromotionError
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.promotion.ledger import retried
from histo_mlflow.promotion.versions import model_of
from histo_mlflow.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")

_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"})


@dataclass(frozen=True)
class Subject:
    """Which model is meant, and by what its run can be read.

    Attributes:
        run_id: of the run.
        model_id: of its logged model; None where it has none, and `problem` says so.
        reference: what `load_run` takes.
        problem: why there is no model.
    """

    run_id: str
    model_id: str | None
    reference: str
    problem: str | None = None


def named(store: Store, reference: str) -> Subject:
    """Find the run and the model that a user means.

    Args:
        store: both are in it.
        reference: the id of a run or of a logged model, `models:/<model id>`, a version in the
            registry such as `models:/NAME@challenger`, or a run's folder.

    Raises:
        PromotionError: there is no such thing, or the run has several models.
        TrackingError: the store failed.
    """
    text = _unaliased(store, reference.strip()).removeprefix("models:/")
    if _MODEL_ID.fullmatch(text):
        found = or_none(
            store, f"looking for model {text}", lambda: store.client.get_logged_model(text)
        )
        if found is None:
            raise PromotionError(
                f"Expected the id of a logged model, got {text}: the store {store.shown_uri} has "
                "none of that id (another store is named with --tracking-uri)"
            )
        if not found.source_run_id:
            raise PromotionError(
                f"the model {text} was logged without a run, so nothing is known of how it was "
                "trained; name a model that `histo-mlflow train` has logged"
            )
        run_id = str(found.source_run_id)
        return Subject(run_id, text, run_id)
    folder = RunFolder(Path(reference))
    facts = folder.facts() if reference.strip() and folder.path.is_dir() else None
    run_id = text if facts is None or facts.run_id is None else facts.run_id
    run = run_of(store, run_id)
    if run is None:
        raise PromotionError(
            f"Expected the id of a run or of a logged model (m-...), got {reference!r}: the store "
            f"{store.shown_uri} has no such run (another store is named with --tracking-uri)"
        )
    readable = reference if facts is not None else run_id
    ids = _models_of(store, run)
    if len(ids) > 1:
        raise PromotionError(
            f"run {run_id} has {len(ids)} models: name the one that is meant ({', '.join(ids)})"
        )
    if not ids:
        return Subject(run_id, None, readable, f"run {run_id[:6]} has logged no model")
    return Subject(run_id, ids[0], readable)


def _unaliased(store: Store, reference: str) -> str:
    """Put the model's id in the place of a registered version; else what it was."""
    if (asked := _REGISTERED.fullmatch(reference)) is None:
        return reference
    name, alias, number = asked["name"], asked["alias"], asked["version"]

    def look() -> ModelVersion:
        if alias:
            return store.client.get_model_version_by_alias(name, alias)
        return store.client.get_model_version(name, number)

    found = or_none(store, f"looking for {reference}", look)
    model_id = None if found is None else model_of(found)
    if model_id is None:
        what = "has no such version" if found is None else "has it, but of no logged model"
        raise PromotionError(f"Expected a model, got {reference}: {store.shown_uri} {what}")
    return model_id


def run_of(store: Store, run_id: str) -> Run | None:
    """Return a run that was not deleted; None where there is none.

    Raises:
        TrackingError: the store failed.
    """
    run = or_none(store, f"looking for run {run_id}", lambda: store.client.get_run(run_id))
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def or_none(store: Store, doing: str, call: Callable[[], T]) -> T | None:
    """Return what the store has, or None where it says that there is no such thing.

    Raises:
        TrackingError: the store failed.
    """
    from mlflow.exceptions import MlflowException

    def look() -> T | None:
        try:
            return call()
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise

    return retried(store, doing, look)


def _models_of(store: Store, run: Run) -> list[str]:
    """Ids of the models that a run has logged whole."""
    from mlflow.entities import LoggedModelStatus

    found = retried(
        store,
        f"looking for the models of run {run.info.run_id}",
        lambda: store.client.search_logged_models(
            experiment_ids=[run.info.experiment_id],
            filter_string=f"source_run_id = '{run.info.run_id}'",
        ),
    )
    return [str(one.model_id) for one in found if one.status == LoggedModelStatus.READY]
