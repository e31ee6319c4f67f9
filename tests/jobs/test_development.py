"""Development images: train and val, or folds of both; nothing leads to the test split."""

import hashlib
import typing
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType

import numpy as np
import pytest

from histo_mlflow.data.leaks import Leaks
from histo_mlflow.data.manifest import Manifest
from histo_mlflow.data.pack import Pack
from histo_mlflow.data.splits import Splits
from histo_mlflow.errors import SplitError
from histo_mlflow.jobs import development as module
from histo_mlflow.jobs.development import (
    Development,
    Developments,
    Division,
    develop,
    develop_fold,
)
from histo_mlflow.jobs.prepare import Audited, Prepared, prepare
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.trainable import Trainable
from histo_mlflow.recipe import load

GIVEN = MappingProxyType({"demo_images": "96", "image_px": "32", "weights": "none"})
QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def prepared():
    return prepare(load("demo", dict(GIVEN)), talk=QUIET)


def ids_in(prepared, *splits):
    table = prepared.splits.table
    return set(table.loc[table["split"].isin(splits), "id"])


def types_within(annotation):
    """Every class that can be reached from an annotation through fields of dataclasses."""
    found, left = set(), [annotation]
    while left:
        one = left.pop()
        left += typing.get_args(one)
        if isinstance(one, type) and one not in found:
            found.add(one)
            if is_dataclass(one):
                hints = typing.get_type_hints(one)
                left += [hints[field.name] for field in fields(one)]
    return found


@pytest.mark.parametrize("holder", [Development, Trainable])
def test_no_field_leads_to_the_test_split(holder):
    whole_data = {Prepared, Audited, Splits, Manifest, Pack, Leaks}

    assert types_within(holder) & whole_data == set()


def test_its_images_are_train_and_val_of_the_recipes_split(prepared):
    found = develop(prepared)

    assert set(found.train_rows.ids) == ids_in(prepared, "train")
    assert set(found.val_rows.ids) == ids_in(prepared, "val")
    assert ids_in(prepared, "test") != set()


@pytest.mark.parametrize("division", [None, Division(3, 1, 5)], ids=["own", "fold"])
def test_pixels_labels_and_rows_are_of_the_same_images(division, prepared):
    found = develop(prepared) if division is None else develop_fold(prepared, division)

    labels = prepared.manifest.table.set_index("id")
    for dataset, rows in ((found.train, found.train_rows), (found.val, found.val_rows)):
        assert dataset.ids(np.arange(len(dataset))) == rows.ids
        assert [found.classes[label] for label in dataset.labels] == labels.loc[
            list(rows.ids), "label"
        ].tolist()
        assert rows.groups == tuple(labels.loc[list(rows.ids), "group"])


def test_folds_hold_every_development_image_once_and_no_test_image(prepared):
    judged = []
    for fold in range(4):
        found = develop_fold(prepared, Division(4, fold, seed=3))
        judged += found.val_rows.ids
        assert {*found.train_rows.ids, *found.val_rows.ids} == ids_in(prepared, "train", "val")
        assert set(found.train_rows.ids).isdisjoint(found.val_rows.ids)

    assert len(judged) == len(set(judged))
    assert set(judged) == ids_in(prepared, "train", "val")


def joined(prepared):
    """The same data with its declared groups joined by threes, as look-alikes would."""
    declared = prepared.manifest.table["group"].tolist()
    order = {group: at for at, group in enumerate(sorted(set(declared)))}
    groups = tuple(f"leak-{order[group] // 3}" for group in declared)
    return replace(prepared, leaks=replace(prepared.leaks, groups=groups))


def test_no_leak_group_lies_on_both_sides_of_a_fold(prepared):
    linked = joined(prepared)
    leak_group = dict(zip(linked.manifest.table["id"], linked.leaks.groups, strict=True))

    for fold in range(3):
        found = develop_fold(linked, Division(3, fold, seed=0))
        train, val = (
            {leak_group[name] for name in rows.ids} for rows in (found.train_rows, found.val_rows)
        )
        assert train & val == set()


def test_a_division_is_the_same_wherever_it_is_drawn_and_another_for_another_seed(prepared):
    """The digest was pinned on one machine."""
    digests = [
        develop_fold(prepared, Division(4, 2, seed)).division_digest for seed in (11, 11, 12)
    ]

    assert digests[:2] == ["a9a1adbd40ff620d", "a9a1adbd40ff620d"]
    assert digests[2] != digests[0]


def test_the_digest_of_the_own_division_is_that_of_earlier_checkpoints(prepared):
    text = prepared.splits.table[["id", "split"]].to_csv(index=False)

    assert develop(prepared).division_digest == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (3, 3), (3, -1)])
def test_a_fold_that_is_not_there_is_refused(folds, fold):
    with pytest.raises(SplitError, match=f"got fold {fold} of {folds} folds"):
        Division(folds, fold, 0)


def test_more_folds_than_groups_are_refused(prepared):
    with pytest.raises(SplitError, match=r"at most as many folds as there are groups, got 5000"):
        develop_fold(prepared, Division(5000, 0, 0))


def test_a_class_that_one_side_would_lack_is_named(prepared):
    table = prepared.manifest.table
    rare = table["label"] == prepared.manifest.classes[1]
    groups = tuple(np.where(rare, "one", table["group"]))
    linked = replace(prepared, leaks=replace(prepared.leaks, groups=groups))

    with pytest.raises(SplitError, match=f"no {prepared.manifest.classes[1]}.*of 1 leak groups"):
        [develop_fold(linked, Division(3, fold, 0)) for fold in range(3)]


def test_recipes_with_the_same_images_are_prepared_once(monkeypatch):
    prepared_for = []

    def counted(recipe, *, talk):
        prepared_for.append(recipe.pixels.image_px)
        return prepare(recipe, talk=talk)

    monkeypatch.setattr(module, "prepare", counted)
    developments = Developments(talk=QUIET)
    found = [
        developments.of(load("demo", {**GIVEN, **given}), division)
        for given, division in [
            ({"lr": "1e-3"}, None),
            ({"lr": "1e-2", "batch_size": "8"}, None),
            ({"lr": "1e-2"}, Division(3, 0, 0)),
            ({"image_px": "24"}, None),
            ({"image_px": "32"}, None),
        ]
    ]

    assert prepared_for == [32, 24]
    assert found[0] is found[1] is found[4]
    assert found[2].division == Division(3, 0, 0)
    assert found[3].train.pack_path != found[0].train.pack_path
