"""One digest that says which data a run has seen."""

import hashlib
import json

import pandas as pd

from histo_mlflow.data.manifest import Manifest
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
    lines = zip(*columns, content, row, strict=True)
    # JSON keeps ("a", "bc") and ("ab", "c") apart, whatever the names hold.
    text = "\n".join(json.dumps(line) for line in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()
