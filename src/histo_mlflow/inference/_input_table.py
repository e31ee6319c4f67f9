"""Images named by a table: a CSV or Parquet file of paths, or the list of a Kaggle set."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.inference._input_folder import Found, file_item, folder_items
from histo_mlflow.inference._listing import Item, shown

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})
SUBMISSION, TEST = "sample_submission.csv", "test"


def table_items(path: Path) -> tuple[list[Item], list[str]]:
    """The images that a table names, in its order, and notes.

    The column `path` holds paths, absolute or relative to the table's folder; `id` is what the
    answers are called, and without it the path as written is. Other columns are not read.

    Raises:
        DataError: it cannot be read, lacks the column, or has blanks in either.
    """
    table = _read(path, ("path",))
    named = "id" in table.columns
    others = [str(name) for name in table.columns if name not in ("path", "id")]
    notes = [f"{path}: the columns {', '.join(others[:8])} are not read"] if others else []
    written = [str(PurePosixPath(cell.strip().replace("\\", "/"))) for cell in table["path"]]
    ids = table["id"].tolist() if named else written
    folder = path.parent
    return [
        file_item(folder / where, shown(name)) for where, name in zip(written, ids, strict=True)
    ], notes


def is_kaggle_set(folder: Path) -> bool:
    """Whether a folder holds a sample submission and test images."""
    return (folder / SUBMISSION).is_file() and (folder / TEST).is_dir()


def kaggle_items(folder: Path) -> Found:
    """The images of a Kaggle set, with the ids and the order of its sample submission.

    A file belongs to an id that equals its name without suffix, or with it.

    Raises:
        DataError: the list cannot be read, or has blank ids.
    """
    ids = _read(folder / SUBMISSION, ("id",))["id"].tolist()
    files, left_out = folder_items(folder / TEST)
    by_name: dict[str, list[Item]] = {}
    for file in files:
        name = PurePosixPath(file.id).name
        for key in dict.fromkeys((PurePosixPath(name).stem, name)):
            by_name.setdefault(key, []).append(file)
    items, used = [], set()
    for one in ids:
        found = by_name.get(one, [])
        used |= {file.id for file in found}
        if len(found) == 1:
            file = found[0]
            items.append(Item(one, file.path, None, file.size, file.stamp, file.problem))
        else:
            several = f"{len(found)} files in {TEST}/ have this id: {found[0].id}" if found else ""
            problem = several or f"no file in {TEST}/ has this id"
            items.append(Item(one, str(folder / TEST / one), problem=problem))
    left_out += [
        (f"{TEST}/{file.id}", f"no id of {SUBMISSION}") for file in files if file.id not in used
    ]
    return items, left_out


def _read(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """A table as text with `needed` and `id` free of blanks."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(
                path, dtype="str", keep_default_na=False, na_filter=False, encoding="utf-8-sig"
            )
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise DataError(f"Expected a table, got {path}, which cannot be read: {reason}") from error
    if missing := [name for name in needed if name not in table.columns]:
        there = ", ".join(map(str, table.columns[:8]))
        raise DataError(
            f"Expected the column {missing[0]!r} in {path}, got {there}; rename the column"
        )
    for name in {*needed, "id"} & set(table.columns):
        cells = table[name]
        if not isinstance(cells, pd.Series):
            raise DataError(f"Expected one column {name!r} in {path}, got {cells.shape[1]}")
        blank = cells.isna() | (cells.astype("str").str.strip() == "")
        if blank.any():
            rows = ", ".join(str(row + 1) for row in blank.to_numpy().nonzero()[0][:5])
            raise DataError(
                f"Expected a value of {name!r} in every row of {path}, got {int(blank.sum()):,} "
                f"blank ones (first: row {rows}); fill them in, or remove the rows"
            )
        table[name] = cells.astype("str")
    return table
