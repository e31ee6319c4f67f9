"""Read metadata tables as text, with everything kept that the checks may want to name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from histo_mlflow.errors import DataError


def read_table(
    path: Path, needed: Sequence[str], *, advice: str = "rename the columns of the table"
) -> pd.DataFrame:
    """Read a CSV with all cells as text, "" for blanks.

    Nothing is guessed: a class called "NA" stays a name, and an id "007" keeps its zeros.

    Args:
        path: The CSV file, UTF-8 with or without a byte order mark.
        needed: Columns that must be there.
        advice: What to do where one is not.

    Raises:
        DataError: Not there, not a CSV, empty, or without a needed column.
    """
    if not path.is_file():
        raise DataError(f"A table is expected at {path}, which does not exist.")
    try:
        table = pd.read_csv(
            path, dtype="str", keep_default_na=False, na_filter=False, encoding="utf-8-sig"
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"{path} cannot be read as a comma-separated table: {reason}.") from error
    missing = [name for name in needed if name not in table.columns]
    if missing:
        column = "column" if len(missing) == 1 else "columns"
        raise DataError(
            f"{path} lacks the {column} {', '.join(missing)}; it has {', '.join(table.columns)}: "
            f"{advice}."
        )
    if table.empty:
        raise DataError(f"{path} has the right columns but no rows.")
    return table


def numbers(values: pd.Series) -> tuple[pd.Series, int]:
    """Text as float64, and how many cells are neither blank nor a number (they become NaN)."""
    numeric = pd.to_numeric(values.replace("", None), errors="coerce").astype(np.float64)
    lost = numeric.isna() & (values.str.strip() != "")
    return numeric, int(lost.sum())


def no_rows(n: int) -> pd.Series:
    """The `row` column of `n` image files: all NA."""
    return pd.Series(pd.array([pd.NA] * n, dtype="Int64"))
