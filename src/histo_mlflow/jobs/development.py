"""The development images: what may be trained on and what chooses, with no way to the test split.

A study, and whatever else compares many trainings, is handed a `Development`. It holds the rows of
train and val alone, so that no choice can be made on the test split, not even by mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.data.manifest import COLUMNS
from histo_mlflow.data.splits import folds_by_group
from histo_mlflow.errors import SplitError
from histo_mlflow.jobs.prepare import Prepared, prepare
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import Recipe


@dataclass(frozen=True)
class Division:
    """One of several group folds of the development images: fold `fold` of `folds` is val.

    Attributes:
        folds: number of folds, at least 2.
        fold: which one is val, 0 .. folds - 1.
        seed: draws the folds.

    Raises:
        SplitError: there are fewer than 2 folds, or no such one.
    """

    folds: int
    fold: int
    seed: int

    def __post_init__(self) -> None:
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise SplitError(
                "Expected at least 2 folds, numbered from 0, got "
                f"fold {self.fold} of {self.folds} folds."
            )

    def told(self) -> str:
        """Such as "fold 2 of 5, seed 17"; folds count from 0."""
        return f"fold {self.fold} of {self.folds}, seed {self.seed}"


@dataclass(frozen=True)
class Rows:
    """What the manifest says of some images, each in the order of their data set.

    Attributes:
        ids: of the images.
        groups: as the manifest declares them (lesion, slide).
        attributes: name -> what else is known, for slices.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    attributes: Mapping[str, Sequence[object]]


@dataclass(frozen=True, eq=False)
class Development:
    """The images that are trained on and those that choose, and what a run says of them.

    Attributes:
        classes: names, in the order of the logits.
        data_digest: of the whole data set.
        division_digest: of which image is trained on and which chooses, 16 hexadecimal digits.
        train: the only images that move weights.
        val: the images that choose.
        train_rows: of `train`.
        val_rows: of `val`.
        division: None for the recipe's own train and val.
        label_source: of the manifest.
        group_kind: of the manifest.
        split_kind: "group", "row" or "given".
        leaking: images of one group may lie on both sides.
        crossing: images with a look-alike, or a member of their group, on another side.
    """

    classes: tuple[str, ...]
    data_digest: str
    division_digest: str
    train: PackedDataset
    val: PackedDataset
    train_rows: Rows
    val_rows: Rows
    division: Division | None
    label_source: str
    group_kind: str
    split_kind: str
    leaking: bool
    crossing: int

    def tags(self) -> dict[str, object]:
        """What a run says of its data."""
        return {
            "histo.data.digest": self.data_digest,
            "histo.data.label_source": self.label_source,
            "histo.data.group_kind": self.group_kind,
            "histo.split.kind": self.split_kind,
            "histo.split.leaking": str(self.leaking).lower(),
            "histo.leak_groups.crossing": self.crossing,
            **({} if self.division is None else {"histo.division": self.division.told()}),
        }


class Developments:
    """The development data of many recipes; what several have in common is prepared once.

    Recipes with the same sections data, split and pixels share one preparation, so a search over
    learning rates reads and packs nothing again.
    """

    def __init__(self, *, talk: Talk) -> None:
        self._talk = talk
        self._prepared: dict[str, Prepared] = {}
        self._made: dict[tuple[str, Division | None], Development] = {}

    def of(self, recipe: Recipe, division: Division | None = None) -> Development:
        """The development data of a recipe: its own train and val, or a fold of both.

        Raises:
            DataError: the data set is not there, or a check says FAIL.
            SplitError: it cannot be divided as asked.
        """
        key = _key(recipe)
        if key not in self._prepared:
            self._prepared[key] = prepare(recipe, talk=self._talk)
        if (key, division) not in self._made:
            prepared = self._prepared[key]
            made = develop(prepared) if division is None else develop_fold(prepared, division)
            self._made[key, division] = made
        return self._made[key, division]


def _key(recipe: Recipe) -> str:
    """What decides the images, their pixels and their split."""
    sections = (recipe.data, recipe.split, recipe.pixels)
    # With data_dir=auto the recipe's name is that of the folder.
    name = recipe.name if recipe.data.data_dir == "auto" and recipe.data.source != "demo" else None
    return json.dumps([name, *(section.model_dump(mode="json") for section in sections)])


def develop(prepared: Prepared) -> Development:
    """The recipe's own train and val."""
    splits = prepared.splits
    return _development(
        prepared,
        splits.table,
        division=None,
        kind=splits.kind,
        leaking=splits.leaking,
        crossing=prepared.crossing,
    )


def develop_fold(prepared: Prepared, division: Division) -> Development:
    """A group fold of the images that are train or val in the recipe's split: the fold is val.

    The folds are made of whole leak groups: declared groups, joined where images look the same. The
    test split stays what it is, and out of reach. Folds depend on names, labels and the seed alone,
    so they are the same on every machine.

    Raises:
        SplitError: fewer groups than folds, or a class is missing from one of the two sides.
    """
    table, groups = prepared.splits.table, np.asarray(prepared.leaks.groups, object)
    inside = (table["split"] != "test").to_numpy()
    fold_of = folds_by_group(
        table.loc[inside, "id"].tolist(),
        table.loc[inside, "label"].tolist(),
        groups[inside].tolist(),
        folds=division.folds,
        seed=division.seed,
    )
    side = np.full(len(table), "test", dtype=object)
    side[inside] = np.where(fold_of == division.fold, "val", "train")
    divided = table.assign(split=side)
    _refuse_missing_class(divided[inside], groups[inside], division)
    return _development(
        prepared,
        divided,
        division=division,
        kind="group",
        leaking=False,
        crossing=prepared.leaks.crossing(side.tolist()),
    )


def _refuse_missing_class(inside: pd.DataFrame, groups: np.ndarray, division: Division) -> None:
    counts = pd.crosstab(inside["split"], inside["label"]).reindex(["train", "val"], fill_value=0)
    for label in counts.columns:
        for name in counts.index:
            if counts.loc[name, label] == 0:
                held = len(set(groups[(inside["label"] == label).to_numpy()]))
                raise SplitError(
                    f"Expected every class in train and val of {division.told()}, but {name} has "
                    f"no {label}: its {int(counts[label].sum()):,} development images are of "
                    f"{held:,} leak groups. Take fewer folds, or leave that class out."
                )


def _development(
    prepared: Prepared,
    table: pd.DataFrame,
    *,
    division: Division | None,
    kind: str,
    leaking: bool,
    crossing: int,
) -> Development:
    manifest = prepared.manifest
    targets = manifest.targets()
    datasets, rows = {}, {}
    for side in ("train", "val"):
        numbers = np.flatnonzero((table["split"] == side).to_numpy()).astype(np.int64)
        datasets[side] = PackedDataset(prepared.pack.path, numbers, targets[numbers])
        rows[side] = rows_of(manifest.table, numbers)
    return Development(
        classes=manifest.classes,
        data_digest=prepared.digest,
        division_digest=division_digest(table),
        train=datasets["train"],
        val=datasets["val"],
        train_rows=rows["train"],
        val_rows=rows["val"],
        division=division,
        label_source=manifest.label_source,
        group_kind=manifest.group_kind,
        split_kind=kind,
        leaking=leaking,
        crossing=crossing,
    )


def rows_of(table: pd.DataFrame, numbers: np.ndarray) -> Rows:
    """What a manifest's table says of the images with these row numbers."""
    some = table.iloc[numbers]
    return Rows(
        tuple(some["id"].tolist()),
        tuple(some["group"].tolist()),
        {str(name): some[name].tolist() for name in some.columns if name not in COLUMNS},
    )


def division_digest(table: pd.DataFrame) -> str:
    """16 hexadecimal digits of which image lies where, from the columns id and split."""
    text = table[["id", "split"]].to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
