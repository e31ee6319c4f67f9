"""Who is trained on, who steers the training, who is tested: train, val and test.

A split is stratified by class and keeps every group (lesion, slide) whole, because two images of
one lesion on both sides make a test score a memory score. A `Splits` whose groups overlap cannot
be constructed; the one exception has to be asked for by name (`split_by_row`) and says of itself
that it leaks.

Fractions always are shares of all the images given, also where a test set is given already or is
one fold of several.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd

from histo_mlflow.data._allot import allot
from histo_mlflow.data._split_rules import (
    SPLITS,
    refuse_malformed,
    refuse_missing_class,
    refuse_overlap,
    some,
)
from histo_mlflow.errors import SplitError

__all__ = [
    "SPLITS",
    "SplitKind",
    "Splits",
    "folds_by_group",
    "kfold_by_group",
    "kfold_by_row",
    "load",
    "save",
    "split_as_given",
    "split_by_group",
    "split_by_row",
]

SplitKind = Literal["group", "row", "given"]
_FORMAT: Final = 1


@dataclass(frozen=True, eq=False)
class Splits:
    """A validated division of the images into train, val and test.

    Attributes:
        table: one row an image with the text columns id, label, group and split, in the order in
            which the images were given.
        kind: how it was made: whole groups, row by row, or as the data set gives it.
        seed: the seed it was drawn with.
        fold: number of the fold that is the test set (0 .. folds - 1), None without folds.
        folds: number of folds, None without folds.

    Raises:
        SplitError: a group lies in several splits (unless kind is "row"), a class is missing from
            a split, or the table is not well formed.
    """

    table: pd.DataFrame
    kind: SplitKind
    seed: int
    fold: int | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(SplitKind):
            raise SplitError(
                f"A split is of the kind group, row or given; '{self.kind}' is none of them."
            )
        refuse_malformed(self.table)
        if self.kind != "row":
            refuse_overlap(self.table)
        refuse_missing_class(self.table)

    @property
    def leaking(self) -> bool:
        """True for a row-wise split: images of one group may lie in several splits.

        Also where every known group has one image: that no group is known does not mean that none
        is torn apart. The other kinds cannot be constructed with a group in two splits.
        """
        return self.kind == "row"

    def rows(self, split: str) -> np.ndarray:
        """Return the row numbers of one split in the table, int64, ascending."""
        if split not in SPLITS:
            raise SplitError(f"A split is one of {', '.join(SPLITS)}; '{split}' is none of them.")
        return np.flatnonzero((self.table["split"] == split).to_numpy()).astype(np.int64)

    def counts(self) -> pd.DataFrame:
        """Return images and groups of every split: a row a split, a column a class, and totals."""
        by_class = pd.crosstab(self.table["split"], self.table["label"]).reindex(list(SPLITS))
        by_class.columns = pd.Index([str(name) for name in by_class.columns])
        sizes = self.table.groupby("split")
        by_class.insert(0, "images", sizes.size().reindex(list(SPLITS)))
        by_class.insert(1, "groups", sizes["group"].nunique().reindex(list(SPLITS)))
        by_class.index.name = "split"
        return by_class


def split_by_group(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> Splits:
    """Divide by whole groups, every class in the same shares.

    The outcome depends on the seed and on what is given, not on its order. The share of a class
    in a split misses the fraction asked for by at most the largest group's share of that class
    when groups hold one class each; few large mixed groups (slides) come as near as an exchange
    of any two of them can bring it.

    Args:
        ids: image ids, unique.
        labels: class name of each image.
        groups: group of each image, such as its lesion or slide.
        val_fraction: share of all images for val, in (0, 1).
        test_fraction: share of all images for test, in (0, 1).
        seed: draws the division.

    Raises:
        SplitError: a fraction is out of range, or a class has fewer than three groups and so
            cannot be in all of train, val and test.
    """
    frame = _frame(ids, labels, groups)
    fractions = _fractions(val_fraction, test_fraction)
    frame["split"] = _named(allot(frame["group"], frame["label"], fractions, seed))
    return Splits(frame, "group", seed)


def split_by_row(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> Splits:
    """Divide image by image, whatever group it is of: scores made on this flatter.

    Kept for comparison with published numbers that were made this way. Arguments and errors as
    for `split_by_group`.
    """
    frame = _frame(ids, labels, groups)
    fractions = _fractions(val_fraction, test_fraction)
    frame["split"] = _named(allot(frame["id"], frame["label"], fractions, seed))
    return Splits(frame, "row", seed)


def split_as_given(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    given: Sequence[str],
    *,
    val_fraction: float,
    seed: int,
) -> Splits:
    """Take the division that the data set comes with; carve val from train where none is given.

    Args:
        ids: image ids, unique.
        labels: class name of each image.
        groups: group of each image.
        given: "train", "val" or "test" of each image.
        val_fraction: share of all images moved from train to val by whole groups; not used where
            the data set gives a val split.
        seed: draws the carving.

    Raises:
        SplitError: images without a split or with another name, no train or no test, groups in
            several of the given splits, or no val can be carved.
    """
    frame = _frame(ids, labels, groups)
    _refuse_lengths("given splits", len(given), len(frame))
    frame["split"] = np.asarray(given, dtype=object)
    strange = ~frame["split"].isin(SPLITS)
    if strange.any():
        raise SplitError(
            f"The data set's own split was asked for, but {int(strange.sum()):,} of "
            f"{len(frame):,} images have none of train, val, test (first: "
            f"{some(frame.loc[strange, 'id'])}); choose split=group to draw one."
        )
    for name in ("train", "test"):
        if not (frame["split"] == name).any():
            raise SplitError(
                f"The data set's own split was asked for, but it has no {name} images; "
                "choose split=group to draw one."
            )
    refuse_overlap(frame)
    if not (frame["split"] == "val").any():
        _carve_val(frame, "group", val_fraction, seed)
    return Splits(frame, "given", seed)


def kfold_by_group(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int,
    fold: int,
    val_fraction: float,
    seed: int,
) -> Splits:
    """Take one fold of several as the test set, carve val from the rest, by whole groups.

    The folds depend on the seed alone, so the test sets of fold 0 .. folds - 1 together hold every
    image once.

    Args:
        ids: image ids, unique.
        labels: class name of each image.
        groups: group of each image.
        folds: number of folds, at least 2.
        fold: which one is the test set, 0 .. folds - 1.
        val_fraction: share of all images for val.
        seed: draws folds and val.

    Raises:
        SplitError: folds or fold out of range, or a class has fewer groups than folds.
    """
    frame = _frame(ids, labels, groups)
    _deal_folds(frame, "group", folds, fold, val_fraction, seed)
    return Splits(frame, "group", seed, fold=fold, folds=folds)


def kfold_by_row(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int,
    fold: int,
    val_fraction: float,
    seed: int,
) -> Splits:
    """Take one fold of several as the test set, image by image: scores made on this flatter.

    Kept to measure by how much. Arguments and errors as for `kfold_by_group`, with images in place
    of groups.
    """
    frame = _frame(ids, labels, groups)
    _deal_folds(frame, "id", folds, fold, val_fraction, seed)
    return Splits(frame, "row", seed, fold=fold, folds=folds)


def folds_by_group(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int,
    seed: int,
) -> np.ndarray:
    """Deal images into folds by whole groups; nothing is carved from them.

    Args:
        ids: image ids, unique.
        labels: class name of each image.
        groups: group of each image.
        folds: number of folds, at least 2.
        seed: draws the folds.

    Returns:
        The fold of each image, int64 (n,), 0 .. folds - 1. A class with fewer groups than folds is
        missing from some.

    Raises:
        SplitError: fewer than two folds, fewer groups than folds, or lengths that differ.
    """
    frame = _frame(ids, labels, groups)
    _refuse_folds(folds, 0)
    if (held := frame["group"].nunique()) < folds:
        raise SplitError(
            f"Expected at most as many folds as there are groups, got {folds} folds of {held:,} "
            "groups: take fewer folds."
        )
    return allot(frame["group"], frame["label"], [1 / folds] * folds, seed)


def save(splits: Splits, path_csv: Path) -> None:
    """Write the table as CSV and kind, seed and fold as JSON beside it (same name, .json)."""
    facts = {
        "format": _FORMAT,
        "kind": splits.kind,
        "seed": splits.seed,
        "fold": splits.fold,
        "folds": splits.folds,
        "leaking": splits.leaking,
        "images": len(splits.table),
    }
    splits.table.to_csv(path_csv, index=False)
    path_csv.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load(path_csv: Path) -> Splits:
    """Read what `save` wrote and validate it anew.

    Raises:
        SplitError: a file is missing, is not ours, or holds a division that is not allowed.
    """
    path_json = path_csv.with_suffix(".json")
    for path in (path_csv, path_json):
        if not path.is_file():
            raise SplitError(f"Saved splits are two files, and {path} is not there.")
    try:
        facts = json.loads(path_json.read_text(encoding="utf-8"))
        table = pd.read_csv(path_csv, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise SplitError(f"The saved splits {path_csv} cannot be read: {error}") from error
    if not isinstance(facts, Mapping) or facts.get("format") != _FORMAT:
        raise SplitError(f"{path_json} is not of the splits format {_FORMAT}; make them anew.")
    absent = [name for name in ("kind", "seed", "fold", "folds", "images") if name not in facts]
    if absent:
        raise SplitError(f"{path_json} lacks {', '.join(absent)}; make the splits anew.")
    if facts["images"] != len(table):
        raise SplitError(
            f"{path_csv} has {len(table):,} images where {path_json.name} says "
            f"{facts['images']:,}; one of the two was changed, make the splits anew."
        )
    return Splits(table, facts["kind"], facts["seed"], fold=facts["fold"], folds=facts["folds"])


def _frame(ids: Sequence[str], labels: Sequence[str], groups: Sequence[str]) -> pd.DataFrame:
    """Return the table without its split column; plain object columns, a fresh index."""
    _refuse_lengths("labels", len(labels), len(ids))
    _refuse_lengths("groups", len(groups), len(ids))
    if len(ids) == 0:
        raise SplitError("There are no images to divide; check the data folder.")
    columns = {"id": ids, "label": labels, "group": groups}
    return pd.DataFrame({name: np.asarray(values, object) for name, values in columns.items()})


def _fractions(val_fraction: float, test_fraction: float) -> list[float]:
    """Return the shares of train, val and test, or refuse them."""
    train_fraction = 1.0 - val_fraction - test_fraction
    if not (val_fraction > 0 and test_fraction > 0 and train_fraction > 1e-9):
        raise SplitError(
            "Train, val and test each need a share above 0 and together make 1; got val_fraction "
            f"{val_fraction:g} and test_fraction {test_fraction:g}, which leaves "
            f"{train_fraction:g} for train."
        )
    return [train_fraction, val_fraction, test_fraction]


def _named(drawn: np.ndarray) -> np.ndarray:
    names: np.ndarray = np.array(SPLITS, dtype=object)[drawn]
    return names


def _deal_folds(
    frame: pd.DataFrame, unit: str, folds: int, fold: int, val_fraction: float, seed: int
) -> None:
    """Make one of `folds` parts the test set and carve val from the rest, in place.

    Args:
        frame: gets its column split.
        unit: the column whose values stay whole, "group" or "id".
        folds: number of parts.
        fold: which of them is the test set.
        val_fraction: share of all images for val.
        seed: draws both.
    """
    _refuse_folds(folds, fold)
    drawn = allot(frame[unit], frame["label"], [1 / folds] * folds, seed)
    frame["split"] = np.where(drawn == fold, "test", "train").astype(object)
    _carve_val(frame, unit, val_fraction, seed)


def _carve_val(frame: pd.DataFrame, unit: str, val_fraction: float, seed: int) -> None:
    """Move val_fraction of all images from train to val, whole units, in place."""
    train = frame.loc[frame["split"] == "train"]
    share = val_fraction * len(frame) / len(train)
    if not 0 < share < 1:
        raise SplitError(
            f"A val_fraction of {val_fraction:g} of {len(frame):,} images cannot be carved from "
            f"the {len(train):,} that are not for the test; choose it above 0 and below "
            f"{len(train) / len(frame):.2f}."
        )
    drawn = allot(train[unit], train["label"], [1 - share, share], seed)
    frame.loc[train.index, "split"] = _named(drawn)


def _refuse_folds(folds: int, fold: int) -> None:
    if folds < 2 or not 0 <= fold < folds:
        raise SplitError(
            f"Folds are numbered from 0 and there are at least 2 of them; got fold {fold} of "
            f"{folds} folds."
        )


def _refuse_lengths(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise SplitError(f"There are {expected:,} ids but {got:,} {what}; each image needs one.")
