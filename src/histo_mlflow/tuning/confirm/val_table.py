"""The predictions by which a training of a confirmation was judged, from its folder or MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.run_folder import VAL_PREDICTIONS, RunFolder
from histo_mlflow.jobs.run_record import fetch
from histo_mlflow.tracking.store import Store


def val_table(store: Store, runs_dir: Path, run_id: str) -> pd.DataFrame | None:
    """The table of a training that is complete, wherever that was made.

    Args:
        store: that its run is in.
        runs_dir: where its folder is, if it is on this machine.
        run_id: of the training.

    Returns:
        None where it is neither here nor in the store: it was removed, or the artifacts of the
        store lie on the disk of another machine.

    Raises:
        DataError: it is not a valid table.
        TrackingError: the store failed.
    """
    here = RunFolder(runs_dir / run_id).results / VAL_PREDICTIONS
    if here.is_file():
        return predictions.load(here)
    if not _is_in(store, run_id):
        return None
    with tempfile.TemporaryDirectory(prefix="histo-mlflow-") as temporary:
        fetch(store, run_id, VAL_PREDICTIONS, Path(temporary))
        try:
            return predictions.load(Path(temporary) / VAL_PREDICTIONS)
        except DataError as error:
            error.add_note(f"it is the artifact {VAL_PREDICTIONS} of run {run_id}")
            raise


def _is_in(store: Store, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    def look() -> bool:
        try:
            return VAL_PREDICTIONS in {one.path for one in store.client.list_artifacts(run_id)}
        except MlflowException as error:
            # The run was removed for good: its table is missing, as one that was removed alone.
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    return store.ask(f"listing the artifacts of run {run_id}", look)
