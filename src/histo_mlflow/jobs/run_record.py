"""What a finished run left behind, read back from its folder, from the store, or from a table.

A run's folder tells everything without the store: the artifacts of the store are copies of it
(`begin` and `results`). Only where there is no folder here, or none that is finished, is the store
asked.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from histo_mlflow.data import splits as splitting
from histo_mlflow.data.splits import Splits
from histo_mlflow.errors import DataError, TrackingError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.style import shorten
from histo_mlflow.jobs.run_folder import OUT_OF_FOLD, PREDICTIONS, RunFolder
from histo_mlflow.recipe import load as load_recipe
from histo_mlflow.tracking.entries import named, param_text
from histo_mlflow.tracking.lifecycle import WHOLE
from histo_mlflow.tracking.store import Store, connect

if TYPE_CHECKING:
    from mlflow.entities import Run

SPLITS = "data/splits.csv"
PROVENANCE = "provenance/provenance.json"
_TABLES = (PREDICTIONS, OUT_OF_FOLD)
_ARTIFACTS = (*_TABLES, SPLITS, "data/splits.json", PROVENANCE)
_SECONDS = 300.0
MOST_BYTES = 255
"""Of a file's name."""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run, or a table of predictions that somebody has put somewhere.

    Attributes:
        reference: what was asked for.
        name: a short name: the run's and the first digits of its id, or the file's.
        run_id: None for a table.
        params: as logged; empty for a table.
        tags: those named `histo.` and `device.`, and whatever else the store has.
        predictions: the valid table, rows of val and test; of a cross-validation every row, all of
            them as test.
        splits: where each image of the data went; None where that is not known.
        provenance: commit, dirty, python, packages and more; empty where that is not known.
        folder: of the run on this machine; None where there is none that is finished.
        store_uri: of the store that it was read from; None where it was not.
    """

    reference: str
    name: str
    run_id: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    predictions: pd.DataFrame
    splits: Splits | None
    provenance: Mapping[str, Any]
    folder: RunFolder | None
    store_uri: str | None = None


def load_run(
    reference: str | Path, *, tracking_uri: str | None = None, runs_dir: str | Path = "runs"
) -> RunRecord:
    """Read what a run left behind.

    Args:
        reference: a predictions table (`.parquet`), the folder of a run, or the id of a run, whose
            files are looked for in `runs_dir` first and then in the store.
        tracking_uri: of the store; None: where the run was begun if its folder is here, else
            `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`. It is only read, and never made.
        runs_dir: where folders of runs are.

    Raises:
        DataError: it is none of these, the run has no predictions, or they are not valid.
        ResumeError: a file of the run's folder cannot be read.
        SplitError: the splits that were saved with it are not valid.
        TrackingError: the store is not there, or failed.
    """
    text = str(reference)
    if not text.strip() or any(len(part.encode()) > MOST_BYTES for part in text.split("/")):
        raise DataError(
            "Expected the id of a run, a run's folder or a predictions table (.parquet), got "
            f"{shorten(text, 60)!r}, which is not there."
        )
    path = Path(text)
    if path.suffix == ".parquet" or path.is_file():
        table = predictions.load(path)
        return RunRecord(text, path.stem, None, {}, {}, table, None, {}, None)
    if path.is_dir():
        folder = RunFolder(path)
        if folder.facts() is None:
            raise DataError(f"Expected the folder of a run, but {path} holds no run.json.")
        if not _is_whole(folder):
            raise DataError(f"{_unfinished(folder)}, so there are no predictions in {path}.")
        return _from_folder(text, folder)
    if not text.strip() or any(sign in text for sign in "/\\"):
        raise DataError(
            f"Expected the id of a run, a run's folder or a predictions table (.parquet), got "
            f"{text!r}, which is not there."
        )
    here = RunFolder(Path(runs_dir) / text)
    facts = here.facts()
    if facts is None:
        try:
            return _from_store(text, connect(tracking_uri, make=False), None)
        except TrackingError as error:
            error.add_note(f"{text!r} is no file or folder here, and there is none in {runs_dir}")
            raise
    if _is_whole(here):
        return _from_folder(text, here)
    from histo_mlflow.jobs.deliver import store_uri  # it brings torch along

    return _from_store(text, connect(store_uri(facts, tracking_uri), make=False), here)


def _is_whole(folder: RunFolder) -> bool:
    outcome = folder.outcome()
    return outcome is not None and outcome["ending"] in WHOLE


def _unfinished(folder: RunFolder) -> str:
    outcome = folder.outcome()
    how = "has not ended" if outcome is None else f"ended as {outcome['ending']}"
    return f"The training in {folder.path} {how}"


def _from_folder(reference: str, folder: RunFolder) -> RunRecord:
    run_id = getattr(folder.facts(), "run_id", None)
    path = folder.results / PREDICTIONS
    if folder.crossval.is_file():
        path = folder.results / OUT_OF_FOLD
    if not path.is_file():
        raise DataError(
            f"Expected the predictions of run {run_id} at {path}, but there is no such file."
        )
    if not folder.recipe.is_file():
        raise DataError(f"Expected the recipe of run {run_id} at {folder.recipe}; it is not there.")
    recipe = load_recipe(str(folder.recipe))
    return RunRecord(
        reference,
        _short(recipe.name, run_id),
        run_id,
        {key: param_text(value) for key, value in named(recipe.flatten()).items()},
        _tags(folder, recipe.name),
        predictions.load(path),
        _splits(folder.begin / SPLITS),
        _json(folder.begin / PROVENANCE),
        folder,
    )


def _tags(folder: RunFolder, recipe: str) -> dict[str, str]:
    """The tags that the run got in the store (`Ready.tags`), from the files of its folder."""
    begin, outcome = folder.begin, folder.outcome() or {}
    manifest, divided = _json(begin / "data/manifest.json"), _json(begin / "data/splits.json")
    weights, device = _json(begin / "weights.json"), _json(begin / "device.json")
    leaks, code = _json(begin / "data/leaks.json"), _json(begin / PROVENANCE)
    found = {
        "histo.recipe": recipe,
        "histo.ending": outcome.get("ending"),
        "histo.data.digest": (folder.dataset() or {}).get("digest"),
        "histo.data.label_source": manifest.get("label_source"),
        "histo.data.group_kind": manifest.get("group_kind"),
        "histo.split.kind": divided.get("kind"),
        "histo.split.leaking": divided.get("leaking"),
        "histo.leak_groups.crossing": leaks.get("images_crossing"),
        "histo.weights.source": weights.get("source"),
        "histo.weights.sha256": weights.get("sha256", "none") or "none",
        "histo.git.commit": code.get("commit"),
        "histo.git.dirty": code.get("dirty"),
        "histo.command": code.get("command"),
        "histo.crossval.folds": _json(folder.crossval).get("folds"),
        **{f"device.{key}": value for key, value in device.items() if key != "reasons"},
    }
    return {key: _text(value) for key, value in found.items() if value is not None}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_store(reference: str, store: Store, unfinished: RunFolder | None) -> RunRecord:
    run = _run(store, reference)
    there = _artifacts(store, reference)
    table = next((name for name in _TABLES if name in there), None)
    if table is None:
        ended = run.data.tags.get("histo.ending")
        why = f"it ended as {ended}" if ended else "it has not ended"
        here = "" if unfinished is None else f" {_unfinished(unfinished)}."
        raise DataError(
            f"Expected run {reference} in {store.shown_uri} to have the artifact {PREDICTIONS}, "
            f"but there is none: {why}, or is no training of histo-mlflow.{here}"
        )
    with tempfile.TemporaryDirectory(prefix="histo-mlflow-") as temporary:
        folder = Path(temporary)
        for name in there:
            fetch(store, reference, name, folder)
        return RunRecord(
            reference,
            _short(run.info.run_name or "run", reference),
            reference,
            dict(run.data.params),
            dict(run.data.tags),
            predictions.load(folder / table),
            _splits(folder / SPLITS),
            _json(folder / PROVENANCE),
            None,
            store.tracking_uri,
        )


def _run(store: Store, run_id: str) -> Run:
    """The run of that id.

    Raises:
        DataError: the store has none, or it was deleted.
        TrackingError: the store failed.
    """
    from mlflow.exceptions import MlflowException

    def look() -> Run | None:
        try:
            return store.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    found = store.ask(f"looking for run {run_id}", look)
    if found is None:
        raise DataError(
            f"Expected the id of a run, a run's folder or a predictions table (.parquet), got "
            f"{run_id!r}: the store {store.shown_uri} has no such run (another store is named with "
            "--tracking-uri)."
        )
    if found.info.lifecycle_stage != "active":
        raise DataError(f"Run {run_id} was deleted; restore it with `mlflow runs restore`.")
    return found


def _artifacts(store: Store, run_id: str) -> list[str]:
    """Which of the artifacts that are read the run has."""

    def look() -> set[str]:
        folders = {"", *(str(Path(name).parent) for name in _ARTIFACTS)} - {"."}
        return {
            entry.path
            for folder in sorted(folders)
            for entry in store.client.list_artifacts(run_id, folder or None)
        }

    there = store.ask(f"listing the artifacts of run {run_id}", look, _SECONDS)
    return [name for name in _ARTIFACTS if name in there]


def fetch(store: Store, run_id: str, name: str, folder: Path) -> None:
    """Bring an artifact into `folder` under its name.

    Raises:
        TrackingError: the store failed.
    """
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    got = store.ask(
        f"fetching {name} of run {run_id}",
        lambda: store.client.download_artifacts(run_id, name, str(place.parent)),
        _SECONDS,
    )
    # some stores put a file at its whole path below the folder, some at its name alone
    Path(got).replace(place)


def _short(name: str, run_id: str | None) -> str:
    return name if run_id is None else f"{name} {run_id[:6]}"


def _splits(path: Path) -> Splits | None:
    return splitting.load(path) if path.is_file() else None


def _json(path: Path) -> dict[str, Any]:
    """What a JSON file of a run says; nothing where it is not there.

    Raises:
        DataError: it is no mapping, or not JSON.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"Expected JSON in {path}, got what cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise DataError(f"Expected a mapping in {path}, got {type(found).__name__}.")
    return found
