"""Digests that say which data a run has seen, and which of it where."""

import hashlib
import json
from collections.abc import Iterable

import pandas as pd

from histo_mlflow.data.manifest import Manifest
from histo_mlflow.data.splits import Splits
from histo_mlflow.errors import DataError


def data_digest(manifest: Manifest, scan: pd.DataFrame) -> str:
    """Return the SHA-256 of what is learnt from: id, label, group and content of each image.

    The order of the rows and where the files lie have no influence, nor has other metadata.

    Args:
        manifest: the labelled images.
        scan: the columns path and sha256 of every file the manifest names.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: a file of the manifest is not in the scan or could not be read.
    """
    digests = pd.Series(scan["sha256"].to_numpy(), index=scan["path"], dtype="str")
    table = manifest.table
    content = table["path"].map(digests).fillna("").astype("str")
    lost = table.loc[content == "", "path"]
    if len(lost):
        raise DataError(
            f"{len(lost):,} of {len(table):,} images have no digest (first: {lost.iloc[0]}); scan "
            "the data again and mend what `histo-mlflow data check` names."
        )
    # One HDF5 file holds many images: there the row tells which.
    row = table["row"].astype("str").where(table["row"].notna(), "")
    columns = [table[name].astype("str") for name in ("id", "label", "group")]
    return _digest(zip(*columns, content, row, strict=True))


def split_digest(splits: Splits) -> str:
    """Return the SHA-256 of which image is in which split; the order of the rows does not matter.

    Two runs with the same one were tested on the same images, and saw the same ones in training.

    Returns:
        64 hexadecimal digits.
    """
    table = splits.table
    return _digest(zip(table["id"].astype("str"), table["split"].astype("str"), strict=True))


def _digest(lines: Iterable[tuple[str, ...]]) -> str:
    # JSON keeps ("a", "bc") and ("ab", "c") apart, whatever the names hold.
    text = "\n".join(json.dumps(line) for line in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()
