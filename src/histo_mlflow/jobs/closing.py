"""How a run is left that does not come to its own end: noted in its folder, told to the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from histo_mlflow import files
from histo_mlflow.errors import (
    DiskError,
    Interrupted,
    NotANumberError,
    TakenOverError,
    TrackingError,
)
from histo_mlflow.jobs.parent import GONE
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.tracking.lifecycle import SETTLED, Ending, close_run, is_closed
from histo_mlflow.tracking.redaction import redact
from histo_mlflow.tracking.store import Store


def note_ending(folder: RunFolder, error: BaseException | None) -> None:
    """Keep how a run was left, for the store to be told later if it does not listen now."""
    if error is None or isinstance(error, TakenOverError):
        return
    outcome = folder.outcome()
    if outcome is not None and outcome["ending"] in SETTLED:
        return
    try:
        if isinstance(error, NotANumberError):
            path = folder.path / "failure.json"
            files.write_json(path, {"sample_ids": list(error.sample_ids)})
            error.add_note(f"all images concerned are in {path}")
        folder.write_outcome({"ending": _ending(error), "cause": _cause(error), "result": None})
    except DiskError as second:  # the disk may be what failed, and the first error tells more
        error.add_note(f"the ending could not be noted in {folder.path}: {second}")


@contextmanager
def closing_if_left(store: Store, run_id: str | None, folder: RunFolder) -> Iterator[None]:
    """Close a run that was just made if an error comes before anything else would close it."""
    try:
        yield
    except BaseException as error:
        if run_id is not None and not isinstance(error, TakenOverError):
            note_ending(folder, error)
            try:
                close_run(store, run_id, _ending(error), _cause(error))
            except TrackingError as second:
                error.add_note(str(second))
        raise


def close_orphan(store: Store, error: BaseException | None) -> None:
    """Close the run that an `mlflow run` made which is gone, where nothing was begun in it yet."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not isinstance(error, Interrupted) or str(error) != GONE or run_id is None:
        return
    try:
        if not is_closed(store, run_id, "interrupted"):
            close_run(store, run_id, "interrupted", GONE)
    except TrackingError as second:
        error.add_note(str(second))


def _ending(error: BaseException) -> Ending:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def _cause(error: BaseException) -> str:
    return redact(f"{type(error).__name__}: {error}")
