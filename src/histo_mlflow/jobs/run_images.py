"""The images behind the predictions of a finished run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.data.fingerprint import data_digest
from histo_mlflow.data.pack import Pack
from histo_mlflow.data.sources import to_manifest
from histo_mlflow.errors import DataError
from histo_mlflow.jobs.inspect import inspect
from histo_mlflow.jobs.prepare import packed
from histo_mlflow.jobs.resume import begun_recipe
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.run_record import RunRecord
from histo_mlflow.jobs.talk import Talk


def pack_of(record: RunRecord, folder: RunFolder, *, talk: Talk) -> Pack:
    """The packed pixels of the data set that a run saw.

    Args:
        record: of the run.
        folder: of the run; its recipe names the data set.
        talk: says what happens.

    Raises:
        DataError: the data set is not here, or holds other images, labels or groups than it did.
        ResumeError: the run's recipe is missing.
    """
    recipe = begun_recipe(folder)
    inspected = inspect(recipe, talk=talk)
    manifest = to_manifest(inspected.listing)
    digest, seen = data_digest(manifest, inspected.scanned), record.tags.get("histo.data.digest")
    if digest != seen:
        raise DataError(
            f"Expected the data that run {record.run_id} saw (digest {str(seen)[:12]}), but "
            f"{manifest.root} holds other images, labels or groups (digest {digest[:12]})."
        )
    return packed(manifest, inspected.scanned, recipe, talk=talk)


def rows_of(pack: Pack, table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The row in the pack of each row of a predictions table, (n,).

    Raises:
        DataError: an image of the table is not in the pack.
    """
    rows = pd.Index(pack.ids).get_indexer(pd.Index(table["id"]))
    if (rows < 0).any():
        missing = table["id"][rows < 0]
        raise DataError(
            f"Expected every predicted image in the data set, but {len(missing):,} are not there, "
            f"such as {missing.iloc[0]}."
        )
    return rows.astype(np.int64)
