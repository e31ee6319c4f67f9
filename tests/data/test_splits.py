"""Splits: whole groups, equal shares of every class, no leak that was not asked for."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histo_mlflow.data.splits import (
    Splits,
    kfold_by_group,
    kfold_by_row,
    load,
    save,
    split_as_given,
    split_by_group,
    split_by_row,
)
from histo_mlflow.errors import SplitError

Rows = tuple[list[str], list[str], list[str]]


def lesions(counts: dict[str, int], seed: int = 0) -> Rows:
    """Images of pure groups (one class each) of one to five images; `counts` are groups."""
    rng = np.random.default_rng(seed)
    ids, labels, groups = [], [], []
    for label, n in counts.items():
        for number in range(n):
            for _ in range(int(rng.choice([1, 1, 1, 2, 2, 3, 5]))):
                ids.append(f"image_{len(ids):05d}")
                labels.append(label)
                groups.append(f"{label}_{number}")
    return ids, labels, groups


def slides(n_slides: int, n_images: int, seed: int = 0) -> Rows:
    """Few big groups of unequal size, each with its own mixture of two classes."""
    rng = np.random.default_rng(seed)
    slide = rng.choice(n_slides, n_images, p=rng.dirichlet(np.full(n_slides, 3.0)))
    tumour = rng.random(n_images) < rng.beta(1, 1, n_slides)[slide]
    ids = [f"patch_{i:05d}" for i in range(n_images)]
    return ids, ["tumour" if t else "normal" for t in tumour], [f"slide_{s}" for s in slide]


def shares(splits: Splits) -> pd.DataFrame:
    """Share of each class in each split, counted independently of `Splits.counts`."""
    pairs = Counter(zip(splits.table["split"], splits.table["label"], strict=True))
    totals = Counter(splits.table["label"])
    return pd.DataFrame(
        {
            label: {name: pairs[name, label] / totals[label] for name in ("train", "val", "test")}
            for label in totals
        }
    )


def assigned(splits: Splits) -> dict[str, str]:
    return dict(zip(splits.table["id"], splits.table["split"], strict=True))


HAM_LIKE = lesions({"nv": 500, "mel": 60, "bkl": 70, "df": 8})


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_stay_whole_and_every_image_is_in_one_split(seed: int) -> None:
    splits = split_by_group(*HAM_LIKE, val_fraction=0.2, test_fraction=0.2, seed=seed)
    where: dict[str, set[str]] = {}
    for group, name in zip(splits.table["group"], splits.table["split"], strict=True):
        where.setdefault(group, set()).add(name)
    assert all(len(names) == 1 for names in where.values())
    assert splits.table["id"].tolist() == HAM_LIKE[0]
    assert not splits.leaking


@pytest.mark.parametrize("fractions", [(0.2, 0.2), (0.1, 0.15), (0.05, 0.45)])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_class_misses_its_fraction_by_at_most_its_largest_group(
    fractions: tuple[float, float], seed: int
) -> None:
    val, test = fractions
    splits = split_by_group(*HAM_LIKE, val_fraction=val, test_fraction=test, seed=seed)
    per_group = splits.table.groupby(["label", "group"]).size()
    wanted = {"train": 1 - val - test, "val": val, "test": test}
    for label, held in shares(splits).items():
        largest = per_group[label].max() / per_group[label].sum()
        for name, fraction in wanted.items():
            assert abs(held[name] - fraction) <= largest


@pytest.mark.parametrize("seed", range(6))
def test_twenty_two_mixed_slides_come_near_the_fractions(seed: int) -> None:
    splits = split_by_group(*slides(22, 4000, seed), val_fraction=0.2, test_fraction=0.2, seed=seed)
    held = shares(splits)
    assert (held.loc["train"] - 0.6).abs().max() < 0.06
    assert (held.loc[["val", "test"]] - 0.2).abs().max(axis=None) < 0.06


def test_three_groups_of_a_class_reach_all_three_splits() -> None:
    rows = lesions({"nv": 40, "df": 3}, seed=3)
    splits = split_by_group(*rows, val_fraction=0.1, test_fraction=0.1, seed=0)
    assert (splits.counts()["df"] > 0).all()


def test_the_order_of_the_rows_does_not_matter() -> None:
    order = np.random.default_rng(5).permutation(len(HAM_LIKE[0]))
    shuffled: Rows = tuple([column[i] for i in order] for column in HAM_LIKE)  # type: ignore[assignment]
    one = split_by_group(*HAM_LIKE, val_fraction=0.2, test_fraction=0.2, seed=7)
    other = split_by_group(*shuffled, val_fraction=0.2, test_fraction=0.2, seed=7)
    assert assigned(one) == assigned(other)


@pytest.mark.parametrize("rows", [HAM_LIKE, slides(22, 2000)], ids=["lesions", "slides"])
def test_one_seed_gives_one_split_and_another_seed_another(rows: Rows) -> None:
    one, again, other = (
        split_by_group(*rows, val_fraction=0.2, test_fraction=0.2, seed=seed) for seed in (1, 1, 2)
    )
    assert assigned(one) == assigned(again)
    assert assigned(one) != assigned(other)


def test_7470_lesions_are_split_in_less_than_a_second() -> None:
    rows = lesions({"nv": 5403, "bkl": 727, "mel": 614, "bcc": 327, "akiec": 228, "df": 171})
    start = time.process_time()
    split_by_group(*rows, val_fraction=0.15, test_fraction=0.15, seed=0)
    assert time.process_time() - start < 1.0


def test_row_wise_splits_say_that_they_leak() -> None:
    splits = split_by_row(*HAM_LIKE, val_fraction=0.2, test_fraction=0.2, seed=0)
    assert splits.kind == "row"
    assert splits.leaking
    assert (shares(splits).loc["test"] - 0.2).abs().max() < 0.05


def test_row_wise_splits_count_as_leaking_where_no_group_is_known() -> None:
    ids = [f"i{i}" for i in range(60)]
    labels = ["a", "b"] * 30
    splits = split_by_row(ids, labels, ids, val_fraction=0.2, test_fraction=0.2, seed=0)
    assert splits.leaking


@pytest.mark.parametrize("kind", ["group", "given"])
def test_a_split_with_overlapping_groups_cannot_be_constructed(kind: str) -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "label": ["x"] * 4,
            "group": ["g1", "g1", "g2", "g3"],
            "split": ["train", "test", "val", "test"],
        }
    )
    with pytest.raises(SplitError, match=r"1 of 3 groups .*g1 in test, train"):
        Splits(table, kind, 0)  # type: ignore[arg-type]
    assert Splits(table, "row", 0).leaking


def test_a_class_with_two_groups_is_refused_by_name() -> None:
    rows = lesions({"nv": 40, "df": 2})
    with pytest.raises(SplitError, match=r"has no df .*of 2 groups"):
        split_by_group(*rows, val_fraction=0.2, test_fraction=0.2, seed=0)


@pytest.mark.parametrize(
    ("val", "test"), [(0.0, 0.2), (0.2, 0.0), (0.5, 0.5), (0.7, 0.4), (-0.1, 0.2)]
)
def test_fractions_that_leave_a_split_empty_are_refused(val: float, test: float) -> None:
    with pytest.raises(SplitError, match="each need a share above 0"):
        split_by_group(*HAM_LIKE, val_fraction=val, test_fraction=test, seed=0)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("id", "b", "more than once"),
        ("label", "", "blank label"),
        ("group", None, "blank group"),
        ("split", "dev", "got dev"),
    ],
)
def test_malformed_tables_are_refused(column: str, value: str | None, message: str) -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "label": ["x", "x", "x"],
            "group": ["1", "2", "3"],
            "split": ["train", "val", "test"],
        },
        dtype=object,
    )
    table.loc[0, column] = value
    with pytest.raises(SplitError, match=message):
        Splits(table, "group", 0)


def given_of(splits: Splits) -> list[str]:
    return splits.table["split"].tolist()


def test_a_given_split_is_taken_as_it_is() -> None:
    given = given_of(split_by_group(*HAM_LIKE, val_fraction=0.3, test_fraction=0.2, seed=9))
    splits = split_as_given(*HAM_LIKE, given, val_fraction=0.1, seed=0)
    assert given_of(splits) == given
    assert splits.kind == "given"


def test_val_is_carved_by_group_from_a_given_train_only() -> None:
    drawn = given_of(split_by_group(*HAM_LIKE, val_fraction=0.3, test_fraction=0.2, seed=9))
    given = ["test" if name == "test" else "train" for name in drawn]
    splits = split_as_given(*HAM_LIKE, given, val_fraction=0.2, seed=0)
    after = given_of(splits)
    assert all((was == "test") == (now == "test") for was, now in zip(given, after, strict=True))
    assert abs(after.count("val") / len(after) - 0.2) < 0.02
    assert not splits.leaking


def test_given_splits_that_share_a_group_are_refused_by_name() -> None:
    ids, labels, groups = HAM_LIKE
    given = ["train" if i % 2 else "test" for i in range(len(ids))]
    with pytest.raises(SplitError, match=r"groups lie in more than one split \(\w+ in test, train"):
        split_as_given(ids, labels, groups, given, val_fraction=0.2, seed=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [("", "have none of train, val, test"), ("train", "it has no test images")],
)
def test_an_incomplete_given_split_is_refused(given: str, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        split_as_given(*HAM_LIKE, [given] * len(HAM_LIKE[0]), val_fraction=0.2, seed=0)


def test_a_val_fraction_that_takes_all_of_train_is_refused() -> None:
    given = given_of(split_by_group(*HAM_LIKE, val_fraction=0.3, test_fraction=0.2, seed=9))
    given = ["test" if name == "test" else "train" for name in given]
    with pytest.raises(SplitError, match=r"below 0\.80"):
        split_as_given(*HAM_LIKE, given, val_fraction=0.9, seed=0)


def test_the_folds_test_every_image_once_by_whole_groups() -> None:
    tested: Counter[str] = Counter()
    for fold in range(4):
        splits = kfold_by_group(*HAM_LIKE, folds=4, fold=fold, val_fraction=0.15, seed=3)
        tested.update(splits.table["id"].iloc[splits.rows("test")])
        held = shares(splits)
        assert (held.loc["test"] - 0.25).abs().max() < 0.07
        assert (held.loc["val"] - 0.15).abs().max() < 0.07
        assert (splits.fold, splits.folds) == (fold, 4)
    assert tested == Counter(HAM_LIKE[0])


def test_row_wise_folds_test_every_image_once_tear_groups_apart_and_say_so() -> None:
    tested: Counter[str] = Counter()
    torn = 0
    for fold in range(4):
        splits = kfold_by_row(*HAM_LIKE, folds=4, fold=fold, val_fraction=0.15, seed=3)
        tested.update(splits.table["id"].iloc[splits.rows("test")])
        assert (shares(splits).loc["test"] - 0.25).abs().max() < 0.03
        assert (shares(splits).loc["val"] - 0.15).abs().max() < 0.03
        assert (splits.kind, splits.leaking, splits.fold, splits.folds) == ("row", True, fold, 4)
        torn += int((splits.table.groupby("group")["split"].nunique() > 1).sum())
    assert tested == Counter(HAM_LIKE[0])
    assert torn > 0


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (5, 5), (5, -1)])
def test_folds_out_of_range_are_refused(folds: int, fold: int) -> None:
    with pytest.raises(SplitError, match="numbered from 0"):
        kfold_by_group(*HAM_LIKE, folds=folds, fold=fold, val_fraction=0.2, seed=0)


def test_saved_splits_come_back_the_same(tmp_path: Path) -> None:
    splits = kfold_by_group(*HAM_LIKE, folds=3, fold=1, val_fraction=0.2, seed=4)
    save(splits, tmp_path / "splits.csv")
    back = load(tmp_path / "splits.csv")
    assert back.table.astype(str).equals(splits.table.astype(str))
    assert (back.kind, back.seed, back.fold, back.folds) == ("group", 4, 1, 3)


def test_names_that_look_like_numbers_or_missing_values_survive_saving(tmp_path: Path) -> None:
    labels = [label for label in ("NA", "007") for _ in range(9)]
    ids = [f"{i:03d}" for i in range(18)]
    splits = split_by_group(ids, labels, ids, val_fraction=0.3, test_fraction=0.3, seed=0)
    save(splits, tmp_path / "splits.csv")
    assert load(tmp_path / "splits.csv").table["label"].tolist() == labels


def test_saved_splits_that_were_edited_are_validated_again(tmp_path: Path) -> None:
    splits = split_by_group(*HAM_LIKE, val_fraction=0.2, test_fraction=0.2, seed=0)
    save(splits, tmp_path / "splits.csv")
    lines = (tmp_path / "splits.csv").read_text().splitlines()
    (tmp_path / "splits.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(SplitError, match="one of the two was changed"):
        load(tmp_path / "splits.csv")
    (tmp_path / "splits.json").unlink()
    with pytest.raises(SplitError, match=r"splits\.json is not there"):
        load(tmp_path / "splits.csv")


def test_the_real_lesions_are_divided_within_a_tenth_of_a_percent(realdata: Path) -> None:
    table = pd.read_csv(realdata / "ham10000_all_200x150" / "HAM10000_metadata.csv")
    splits = split_by_group(
        table["image_id"].tolist(),
        table["dx"].tolist(),
        table["lesion_id"].tolist(),
        val_fraction=0.15,
        test_fraction=0.15,
        seed=0,
    )
    frequent = shares(splits)[["nv", "mel", "bkl", "bcc"]]
    assert (frequent.loc["test"] - 0.15).abs().max() < 0.001
    assert splits.counts()["images"].sum() == 10_015
