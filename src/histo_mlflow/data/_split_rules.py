"""What must hold of every division into train, val and test; each rule raises a `SplitError`."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from histo_mlflow.errors import SplitError

SPLITS: Final = ("train", "val", "test")
COLUMNS: Final = ("id", "label", "group", "split")
_NAMED: Final = 5  # how many offenders a message names


def refuse_malformed(table: pd.DataFrame) -> None:
    """Refuse missing columns, blanks, ids that occur twice, and unknown split names."""
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        raise SplitError(
            f"A table of splits has the columns {', '.join(COLUMNS)}; {', '.join(absent)} missing."
        )
    for name in COLUMNS:
        blank = table[name].isna() | (table[name] == "")
        if blank.any():
            raise SplitError(
                f"{int(blank.sum()):,} of {len(table):,} images have a blank {name}; fill it in or "
                "leave those images out."
            )
    twice = table["id"].duplicated()
    if twice.any():
        raise SplitError(
            f"{int(twice.sum()):,} image ids appear more than once (first: "
            f"{some(table.loc[twice, 'id'])}); every image is in one split only."
        )
    strange = sorted(set(table["split"]) - set(SPLITS))
    if strange:
        raise SplitError(f"Splits are called {', '.join(SPLITS)}; got {', '.join(strange)}.")


def refuse_overlap(table: pd.DataFrame) -> None:
    """Refuse groups that lie in more than one split."""
    splits_of = table.groupby("group", sort=True)["split"].nunique()
    shared = splits_of.index[splits_of > 1]
    if len(shared):
        inside = table[table["group"].isin(shared[:_NAMED])].groupby("group", sort=True)["split"]
        named = "; ".join(f"{group} in {', '.join(sorted(set(part)))}" for group, part in inside)
        raise SplitError(
            f"{len(shared):,} of {len(splits_of):,} groups lie in more than one split ({named}); a "
            "group stays whole. Choose split=group, or split=row if the leak is wanted."
        )


def refuse_missing_class(table: pd.DataFrame) -> None:
    """Refuse a split without images of a class that the table holds; so also an empty split."""
    counts = pd.crosstab(table["split"], table["label"]).reindex(list(SPLITS), fill_value=0)
    gaps = [
        f"{split} has no {label}"
        for label in counts.columns
        for split in SPLITS
        if counts.loc[split, label] == 0
    ]
    if gaps:
        groups = table.groupby("label")["group"].nunique()
        short = {gap.rpartition(" has no ")[2] for gap in gaps}
        held = ", ".join(
            f"{label}: {int(counts[label].sum()):,} images of {int(groups[label]):,} groups"
            for label in sorted(short)
        )
        raise SplitError(
            f"Every class has to be in train, val and test, but {some(gaps)} ({held}); give more "
            "images of that class, leave it out, or choose other fractions or another seed."
        )


def some(names: Sequence[str] | pd.Series) -> str:
    """Return the first few names and how many more there are."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - _NAMED:,} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
