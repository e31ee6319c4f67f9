"""The predictions table: one row an image, everything that the evaluation reads.

Columns, in this order: `id`, `group`, `split`, `label`, `predicted` (text); the logits, which are
`logit` for a model with one output or `logit_<class>` for each class; `p_<class>` for each class
(float64); then `slice_<name>` for whatever else is known of an image, such as `slice_sex` (any
values, blanks allowed). The table explains itself: classes and kind of output are read off its
columns. It is kept as Parquet and needs no torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation._files import replacing
from histo_mlflow.evaluation.probabilities import (
    Floats,
    Output,
    checked_logits,
    log_odds,
    probabilities,
)

TEXT_COLUMNS = ("id", "group", "split", "label", "predicted")
SLICE = "slice_"
"""Before the name of a column that is no part of the prediction."""


def predictions_table(
    ids: Sequence[str],
    groups: Sequence[str],
    splits: Sequence[str],
    targets: npt.ArrayLike,
    logits: npt.ArrayLike,
    classes: Sequence[str],
    output: Output,
    attributes: Mapping[str, Sequence[object]] | None = None,
) -> pd.DataFrame:
    """Join what is known of n images with what the model says of them.

    Args:
        ids: n different image ids.
        groups: lesion, slide or patient of each image.
        splits: train, val or test, for each image.
        targets: (n,) integers, the index of the true class.
        logits: (n, K) for softmax or (n, 1) for sigmoid (the logit of class 1); any float type.
        classes: K names, in the order of the logits.
        output: how logits become probabilities.
        attributes: name -> n values of what else is known, for slices; kept as `slice_<name>`.

    Returns:
        The table described at the top of this module. `predicted` is the class of the largest
        probability, the first of them on a tie (so a sigmoid says class 1 only above 0.5).

    Raises:
        DataError: lengths differ, ids repeat, a blank, a target outside the classes, a logit that
            is not finite, or logits that do not fit the classes.
    """
    values = checked_logits(logits, output)
    indices = np.asarray(targets)
    lengths = {
        "ids": len(ids),
        "groups": len(groups),
        "splits": len(splits),
        "targets": len(indices),
        "logits": len(values),
        **{f"values of {name!r}": len(column) for name, column in (attributes or {}).items()},
    }
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{count:,} {name}" for name, count in lengths.items())
        raise DataError(f"Expected one entry an image in every column, got {told}.")
    logit_columns, p_columns = _value_columns(classes, output)
    if values.shape[1] != len(logit_columns):
        raise DataError(
            f"Expected {len(logit_columns)} logits a row for {len(classes)} classes with the "
            f"output {output}, got {values.shape[1]}."
        )
    if not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f"Expected class indices as integers, got {indices.dtype}.")
    if indices.size and not 0 <= indices.min() <= indices.max() < len(classes):
        raise DataError(
            f"Expected class indices from 0 to {len(classes) - 1}, "
            f"got {indices.min()} to {indices.max()}."
        )
    p = probabilities(values, output)
    names = np.asarray(list(classes), dtype=object)
    text = {
        "id": list(ids),
        "group": list(groups),
        "split": list(splits),
        "label": names[indices],
        "predicted": names[p.argmax(axis=1)],
    }
    table = pd.concat(
        [
            pd.DataFrame(text, dtype="str"),
            pd.DataFrame(values, columns=pd.Index(logit_columns)),
            pd.DataFrame(p, columns=pd.Index(p_columns)),
            pd.DataFrame(
                {f"{SLICE}{name}": pd.Series(list(v)) for name, v in (attributes or {}).items()},
                index=pd.RangeIndex(len(values)),
            ),
        ],
        axis=1,
    )
    return validated(table)


def validated(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` if it is a whole predictions table.

    Raises:
        DataError: columns are missing, unknown or in another order, an id repeats, a blank, a label
            that is no class, a value that is not a finite number, or probabilities and predictions
            that do not follow from the logits.
    """
    classes, output = classes_of(table), output_of(table)
    logit_columns, p_columns = _value_columns(classes, output)
    expected = [*TEXT_COLUMNS, *logit_columns, *p_columns]
    found = [str(name) for name in table.columns]
    extra = found[len(expected) :]
    if found[: len(expected)] != expected or not all(name.startswith(SLICE) for name in extra):
        wanted = f"the columns {_some(expected)}, in this order, and then only {SLICE}..."
        lacking = [name for name in expected if name not in found]
        strange = [n for n in found if n not in expected and not n.startswith(SLICE)]
        got = f"{_some(found)} (missing: {_some(lacking)}; unknown: {_some(strange)})"
        raise DataError(_told(wanted, got))
    for column in TEXT_COLUMNS:
        kind = pd.api.types.infer_dtype(table[column].astype("object"), skipna=True)
        if kind not in ("string", "empty"):
            raise DataError(_told(f"text in {column!r}", f"{kind} values"))
        blank = table[column].isna() | (table[column].astype("str").str.strip() == "")
        if blank.any():
            raise DataError(_told(f"a value in every row of {column!r}", f"{blank.sum():,} blanks"))
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise DataError(
            _told("ids that occur once", f"{len(repeated):,} repeated, first {repeated.iloc[0]!r}")
        )
    for column in ("label", "predicted"):
        unknown = table[column][~table[column].isin(classes)]
        if len(unknown):
            raise DataError(
                _told(f"a {column} out of {', '.join(classes)}", f"{unknown.iloc[0]!r}")
            )
    for column in (*logit_columns, *p_columns):
        if table[column].dtype != np.float64:
            raise DataError(_told(f"float64 in {column!r}", str(table[column].dtype)))
    p = probabilities(logits_of(table), output)
    stored = table[p_columns].to_numpy()
    # not `>`: a NaN among the stored values must not pass
    off = ~(np.abs(stored - p) <= 1e-9).all(axis=1)
    if off.any():
        raise DataError(
            _told("probabilities that follow from the logits", f"{off.sum():,} rows where not")
        )
    names = np.asarray(classes, dtype=object)
    # the table is compared with its own probabilities, since a near-tie may round either way
    wrong = table["predicted"].to_numpy(dtype=object) != names[stored.argmax(axis=1)]
    if wrong.any():
        raise DataError(
            _told("the likeliest class as the prediction", f"{wrong.sum():,} rows with another")
        )
    return table


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the class names in the order of the model's outputs."""
    return tuple(str(name)[2:] for name in table.columns if str(name).startswith("p_"))


def output_of(table: pd.DataFrame) -> Output:
    """Return "sigmoid" if the table holds one logit a row, else "softmax"."""
    return "sigmoid" if "logit" in table.columns else "softmax"


def targets_of(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the index of each row's true class, shape (n,)."""
    index = pd.Index(classes_of(table), dtype="str")
    return np.asarray(index.get_indexer(pd.Index(table["label"])), dtype=np.int64)


def logits_of(table: pd.DataFrame) -> Floats:
    """Return the logits, (n, K) or (n, 1) for a sigmoid."""
    columns, _ = _value_columns(classes_of(table), output_of(table))
    return table[columns].to_numpy(dtype=np.float64)


def probabilities_of(table: pd.DataFrame) -> Floats:
    """Return the probabilities, (n, K)."""
    return table[[f"p_{name}" for name in classes_of(table)]].to_numpy(dtype=np.float64)


def log_odds_of(table: pd.DataFrame) -> Floats:
    """Return log(p / (1 - p)) of every class, (n, K): the score that ROC curves run over."""
    return log_odds(logits_of(table), output_of(table))


def attributes_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return what else is known of each row, one column a name, as it was given."""
    columns = [name for name in table.columns if str(name).startswith(SLICE)]
    return table[columns].rename(columns=lambda name: str(name).removeprefix(SLICE))


def of_split(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of one split, numbered anew.

    Raises:
        DataError: no row belongs to it.
    """
    rows = table[table["split"] == split]
    if rows.empty:
        there = ", ".join(sorted(set(table["split"]))) or "no rows at all"
        raise DataError(f"Expected predictions of the split {split!r}, the table has: {there}.")
    return rows.reset_index(drop=True)


def save(table: pd.DataFrame, path: Path) -> None:
    """Write the table as Parquet, whole or not at all.

    Raises:
        DataError: the table is not valid, see `validated`.
    """
    validated(table)
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def load(path: Path) -> pd.DataFrame:
    """Read and validate a table that `save` wrote.

    Raises:
        DataError: no such file, not Parquet, or not a valid predictions table.
    """
    if not path.is_file():
        raise DataError(f"Expected a predictions table at {path}, but there is no such file.")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a Parquet file at {path}, but it cannot be read: {error}") from (
            error
        )
    try:
        return validated(table)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _value_columns(classes: Sequence[str], output: Output) -> tuple[list[str], list[str]]:
    names = list(classes)
    if len(names) < 2 or len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise DataError(_told("two or more classes with different names, none blank", repr(names)))
    if output == "sigmoid" and len(names) != 2:
        raise DataError(_told("two classes with one sigmoid logit", f"{len(names)}: {names}"))
    logits = ["logit"] if output == "sigmoid" else [f"logit_{name}" for name in names]
    return logits, [f"p_{name}" for name in names]


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def _told(expected: str, got: str) -> str:
    return f"A predictions table needs {expected}; got {got}."
