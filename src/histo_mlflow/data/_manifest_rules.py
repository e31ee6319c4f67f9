"""What a manifest must satisfy, each breach said as a clause that names the first offenders."""

from collections.abc import Sequence

import pandas as pd

COLUMNS = ("id", "path", "row", "label", "group", "given_split")
UNLABELLED_COLUMNS = ("id", "path", "row")
GIVEN_SPLITS = ("", "train", "val", "test")

_NAMED = 5  # offenders named in a message; the rest are counted


def _named(values: pd.Series) -> str:
    """The first few values, and how many more there are."""
    first = ", ".join(repr(str(value)) for value in values.iloc[:_NAMED])
    more = len(values) - _NAMED
    return f"{first} and {more:,} more" if more > 0 else first


def class_problems(classes: Sequence[str]) -> list[str]:
    """What is wrong with the class names, [] if nothing."""
    if len(classes) < 2:
        return [f"at least two classes are needed, there are {len(classes)}: {list(classes)}"]
    if len(set(classes)) != len(classes) or not all(name.strip() for name in classes):
        return [f"class names must be different and not blank, got {list(classes)}"]
    return []


def table_problems(table: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """What is wrong with the labelled rows, [] if nothing."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        return [f"the table lacks the columns {missing}"]
    if table.empty:
        return ["there are no labelled images"]
    problems = _id_problems(table, "labelled")
    for column in ("label", "group"):
        blank = _is_blank(table[column])
        if blank.any():
            problems.append(
                f"{int(blank.sum()):,} images have no {column}: {_named(table['id'][blank])}"
            )
    unknown = ~table["label"].isin(list(classes)) & ~_is_blank(table["label"])
    if unknown.any():
        problems.append(
            f"{int(unknown.sum()):,} images have a label outside {list(classes)}: "
            f"{_named(table['label'][unknown].drop_duplicates())}"
        )
    strange = ~table["given_split"].isin(GIVEN_SPLITS)
    if strange.any():
        problems.append(
            "given_split must be train, val, test or empty, not "
            f"{_named(table['given_split'][strange].drop_duplicates())}"
        )
    return problems


def unlabelled_problems(unlabelled: pd.DataFrame) -> list[str]:
    """What is wrong with the rows that wait for a prediction, [] if nothing."""
    missing = [name for name in UNLABELLED_COLUMNS if name not in unlabelled.columns]
    if missing:
        return [f"the table of unlabelled images lacks the columns {missing}"]
    return _id_problems(unlabelled, "unlabelled")


def _id_problems(table: pd.DataFrame, kind: str) -> list[str]:
    problems = []
    blank = _is_blank(table["id"])
    if blank.any():
        problems.append(f"{int(blank.sum()):,} {kind} rows have no id")
    repeated = table["id"].duplicated() & ~blank
    if repeated.any():
        problems.append(
            f"{int(repeated.sum()):,} {kind} ids occur more than once: "
            f"{_named(table['id'][repeated].drop_duplicates())}"
        )
    lost = _is_blank(table["path"])
    if lost.any():
        problems.append(
            f"{int(lost.sum()):,} {kind} ids have no image file: {_named(table['id'][lost])}"
        )
    return problems


def _is_blank(values: pd.Series) -> pd.Series:
    return values.isna() | (values.astype("str").str.strip() == "")
