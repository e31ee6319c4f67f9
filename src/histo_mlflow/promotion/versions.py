"""Versions of a registered model: one a logged model, however often it is registered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from histo_mlflow.promotion.ledger import retried
from histo_mlflow.tracking.entries import TAG_CHARACTERS
from histo_mlflow.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MODEL_TAG = "histo.model_id"
_LINKS = "mlflow.modelVersions"


def versions(store: Store, name: str) -> tuple[ModelVersion, ...]:
    """Return the versions of a registered model, the oldest first; none where there is no model.

    Raises:
        TrackingError: the store failed.
    """
    quoted = name.replace("'", "\\'")

    def look() -> list[ModelVersion]:
        found: list[ModelVersion] = []
        token = None
        while True:
            page = store.client.search_model_versions(f"name='{quoted}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    found = retried(store, f"listing the versions of {name!r}", look)
    return tuple(sorted(found, key=lambda one: int(one.version)))


def model_of(version: ModelVersion) -> str | None:
    """Return the id of the logged model that a version is of; None where it is of none."""
    if named := version.tags.get(MODEL_TAG):
        return str(named)
    source = str(version.source or "")
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


def version_of(store: Store, name: str, model_id: str) -> int | None:
    """Return the version that a logged model has; the first one, should there be several.

    Raises:
        TrackingError: the store failed.
    """
    found = [int(one.version) for one in versions(store, name) if model_of(one) == model_id]
    return found[0] if found else None


def register(store: Store, name: str, model_id: str, run_id: str) -> int:
    """Make a version of a logged model, unless it has one; its number.

    Of several processes that do so at once all come to the same version: numbers are given one
    after another, so whoever sees a lower one takes it and removes its own.

    Raises:
        TrackingError: the store failed.
    """
    if (there := version_of(store, name, model_id)) is not None:
        return there
    source = f"models:/{model_id}"

    def make() -> int:
        with _global_store(store):
            made = store.client.create_model_version(
                name,
                source,
                run_id=run_id,
                tags={MODEL_TAG: model_id},
                await_creation_for=0,
                model_id=model_id,
            )
        return int(made.version)

    made = retried(store, f"registering {source} as {name!r}", make)
    first = version_of(store, name, model_id)
    if first is not None and first != made:
        retried(
            store,
            "removing a version that another process has made too",
            lambda: store.client.delete_model_version(name, str(made)),
        )
        return first
    _link(store, name, made, model_id)
    return made


def tag_version(store: Store, name: str, version: int, tags: Mapping[str, str]) -> None:
    """Write tags of a version; those it has are replaced.

    Raises:
        TrackingError: the store failed.
    """
    for tag, text in tags.items():
        retried(
            store,
            f"noting the decision on version {version}",
            lambda tag=tag, text=text: store.client.set_model_version_tag(  # type: ignore[misc]
                name, str(version), tag, text[:TAG_CHARACTERS]
            ),
        )


def _link(store: Store, name: str, version: int, model_id: str) -> None:
    """Tell the logged model of its version, as MLflow's own `register_model` and servers do."""
    if store.is_server:
        return

    def link() -> None:
        model = store.client.get_logged_model(model_id)
        links = json.loads(model.tags.get(_LINKS) or "[]")
        links.append({"name": name, "version": version})
        store.client.set_logged_model_tags(model_id, {_LINKS: json.dumps(links)})

    retried(store, "linking the model with its version", link)


@contextmanager
def _global_store(store: Store) -> Iterator[None]:
    """Let MLflow's own store ask the right store for a model: it asks the global one.

    MLflow writes the global address into the environment too, where `connect` would read it.
    """
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(store.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
