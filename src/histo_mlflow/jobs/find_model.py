"""From what a user calls a model to its model folder on this machine.

Nothing that came along with an MLflow model is run or even imported: only the model folder is taken
out of it, which `read_model_folder` checks byte by byte.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histo_mlflow.errors import DataError, ModelFolderError, TrackingError
from histo_mlflow.evaluation.style import shorten
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.registry.log_model import DIGEST_TAG
from histo_mlflow.registry.model_folder import DESCRIPTION, folder_digest
from histo_mlflow.registry.serving_model import ARTIFACT, registered_version
from histo_mlflow.tracking.lifecycle import WHOLE
from histo_mlflow.tracking.store import Store, connect

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

INSIDE = f"artifacts/{ARTIFACT}"
"""Where the model folder lies in an MLflow model."""
DOWNLOAD_SECONDS = 1800.0
EXPECTED = (
    "a model of the registry (models:/NAME@champion, models:/NAME/3), a logged model "
    "(models:/m-...), the id or folder of a run, or a model folder"
)
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))$")
_LOGGED = re.compile(r"(models:/)?(?P<id>m-[0-9a-f]{32})$")
_RUN = re.compile(r"(runs:/)?(?P<id>[0-9a-f]{32})(/.*)?$")


@dataclass(frozen=True)
class FoundModel:
    """A model folder on this machine, and what it is called.

    Attributes:
        reference: what was asked for.
        folder: the model folder; not checked yet.
        version: for answers, such as "histo-ham10000 v3", the id of the logged model, or the first
            digits of the digest.
        digest: of the folder.
        run_id: of the run that made it, where that is known without reading the folder.
        model_id: of the logged model, where it is one.
        registered_name: in the registry, where it was asked for there.
        registered_version: its number there.
    """

    reference: str
    folder: Path
    version: str
    digest: str
    run_id: str | None = None
    model_id: str | None = None
    registered_name: str | None = None
    registered_version: int | None = None


@contextmanager
def find_model(
    reference: str, *, tracking_uri: str | None = None, runs_dir: str | Path = "runs"
) -> Iterator[FoundModel]:
    """Find a model; what had to be fetched for it is gone afterwards.

    Args:
        reference: `models:/NAME@ALIAS`, `models:/NAME/3`, `models:/m-...`, `m-...`, the id of a run
            (its files are looked for in `runs_dir` first), the folder of a run, a model folder, or
            the folder of an MLflow model.
        tracking_uri: of the store; None: `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`. It is
            only read, and never made; for what is a folder here it is not asked at all.
        runs_dir: where folders of runs are.

    Raises:
        DataError: it is none of these, or the run has no model.
        ModelFolderError: there is no model folder in it.
        TrackingError: the store is not there, failed, or knows no such model.
    """
    if (local := _here(reference, runs_dir)) is not None:
        yield local
        return
    registered, logged, run = (
        pattern.fullmatch(reference.strip()) for pattern in (_REGISTERED, _LOGGED, _RUN)
    )
    if not (registered or logged or run):
        raise DataError(f"Expected {EXPECTED}, got {shorten(reference, 80)!r}, which is none here.")
    store = connect(tracking_uri, make=False)
    name: str | None = None
    version: int | None = None
    if registered:
        found = _version(store, registered["name"], registered["alias"], registered["version"])
        name, version = str(found.name), int(found.version)
        model_id = found.model_id or str(found.source).removeprefix("models:/")
        called = registered_version(name, version)
    else:
        model_id = logged["id"] if logged else _model_of_run(store, run["id"])  # type: ignore[index]
        called = model_id
    with tempfile.TemporaryDirectory(prefix="histo-mlflow-") as temporary:
        folder, run_id = _fetched(store, model_id, Path(temporary))
        yield FoundModel(
            reference, folder, called, folder_digest(folder), run_id, model_id, name, version
        )


def _here(reference: str, runs_dir: str | Path) -> FoundModel | None:
    """What is a folder on this machine; None where there is none."""
    path = Path(reference)
    as_run = RunFolder(Path(runs_dir) / reference)
    if _RUN.fullmatch(reference) and as_run.model.is_dir():
        return _of_run(reference, as_run)
    if reference.startswith(("models:", "runs:")) or not _is_folder(path):
        return None
    if (path / DESCRIPTION).is_file():
        return _of_folder(reference, path)
    if (path / "run.json").is_file():
        return _of_run(reference, RunFolder(path))
    if (path / INSIDE).is_dir():
        for part in ((path / INSIDE).parent, path / INSIDE):
            if part.is_symlink():
                raise ModelFolderError(f"{part} is a link; the folder of a model holds none")
        return _of_folder(reference, path / INSIDE)
    raise ModelFolderError(
        f"Expected {EXPECTED}; {path} is a folder that holds neither {DESCRIPTION} nor run.json "
        f"nor {INSIDE}"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds NUL
        return False


def _of_folder(reference: str, folder: Path) -> FoundModel:
    digest = folder_digest(folder)
    return FoundModel(reference, folder, digest[:12], digest)


def _of_run(reference: str, folder: RunFolder) -> FoundModel:
    facts, outcome = folder.facts(), folder.outcome()
    if outcome is None or outcome["ending"] not in WHOLE or not folder.model.is_dir():
        how = "has not ended" if outcome is None else f"ended as {outcome['ending']}"
        raise DataError(f"Expected a run with a model, but the training in {folder.path} {how}.")
    digest = folder_digest(folder.model)
    model_id = folder.delivered().get("model_id")
    return FoundModel(
        reference,
        folder.model,
        model_id or digest[:12],
        digest,
        None if facts is None else facts.run_id,
        model_id,
    )


def _version(store: Store, name: str, alias: str | None, number: str | None) -> ModelVersion:
    """A registered version.

    Raises:
        TrackingError: there is none, or the store failed.
    """
    from mlflow.exceptions import MlflowException

    def look() -> ModelVersion | None:
        try:
            if alias is not None:
                return store.client.get_model_version_by_alias(name, alias)
            return store.client.get_model_version(name, str(number))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    asked = f"models:/{name}{f'@{alias}' if alias else f'/{number}'}"
    found = store.ask(f"looking for {asked}", look)
    if found is None:
        advice = f"`histo-mlflow promote RUN_ID --name {name}` registers one"
        raise TrackingError(f"the store {store.shown_uri} has no model {asked}; {advice}")
    return found


def _model_of_run(store: Store, run_id: str) -> str:
    """The id of the last model that a run logged.

    Raises:
        DataError: the store has no such run, or it has no model.
    """
    from mlflow.exceptions import MlflowException

    def look() -> list[str] | None:
        try:
            outputs = store.client.get_run(run_id).outputs
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return [one.model_id for one in outputs.model_outputs] if outputs else []

    found = store.ask(f"looking for the models of run {run_id}", look)
    if not found:
        what = "has no such run" if found is None else "has that run, but no model of it"
        raise DataError(f"Expected {EXPECTED}, got {run_id}: the store {store.shown_uri} {what}.")
    return found[-1]


def _fetched(store: Store, model_id: str, temporary: Path) -> tuple[Path, str | None]:
    """The model folder of a logged model, and the run that made it."""
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    def look() -> LoggedModel | None:
        try:
            return store.client.get_logged_model(model_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    model = store.ask(f"looking for the model {model_id}", look)
    if model is None:
        raise TrackingError(
            f"the store {store.shown_uri} has no model {model_id}: it was deleted, or is in "
            "another store (--tracking-uri)"
        )
    got = store.ask(
        f"fetching the model {model_id}",
        lambda: mlflow.artifacts.download_artifacts(
            artifact_uri=f"{model.artifact_location}/{INSIDE}",
            dst_path=str(temporary),
            tracking_uri=store.tracking_uri,
        ),
        DOWNLOAD_SECONDS,
    )
    # All else in the folder is as its description says; only the store knows of the description.
    digest, logged = folder_digest(Path(got)), model.tags.get(DIGEST_TAG)
    if logged is not None and digest != logged:
        raise ModelFolderError(
            f"{DESCRIPTION} of the model {model_id} was altered since it was logged: sha256 "
            f"{digest[:12]}..., expected {logged[:12]}...; log the model again"
        )
    return Path(got), model.source_run_id
