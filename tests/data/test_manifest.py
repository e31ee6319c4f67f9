"""The manifest refuses inconsistent data and survives the way through its files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histo_mlflow.data.manifest import Manifest, empty_unlabelled, facts_path, load, save
from histo_mlflow.errors import DataError


def table(**changes: object) -> pd.DataFrame:
    columns: dict[str, object] = {
        "id": ["007", "b", "c"],
        "path": ["x/007.png", "x/b.png", "x/c.png"],
        "row": pd.array([pd.NA, pd.NA, pd.NA], dtype="Int64"),
        "label": ["NA", "mel", "NA"],
        "group": ["1", "1", "2"],
        "given_split": ["", "", ""],
    }
    return pd.DataFrame(columns | changes)


def manifest(rows: pd.DataFrame, **changes: object) -> Manifest:
    facts: dict[str, object] = {
        "source": "folders",
        "root": Path("some/where"),
        "classes": ("mel", "NA"),
        "group_kind": "lesion",
        "label_source": "metadata",
        "unlabelled": empty_unlabelled(),
    }
    return Manifest(table=rows, **(facts | changes))  # type: ignore[arg-type]


def test_targets_are_indices_in_class_order() -> None:
    targets = manifest(table()).targets()

    assert targets.tolist() == [1, 0, 1]
    assert targets.dtype == np.int64


def test_class_counts_name_classes_without_images_too() -> None:
    counts = manifest(table(), classes=("mel", "NA", "df")).class_counts()

    assert counts == {"mel": 1, "NA": 2, "df": 0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": ["b", "b", "c"]}, "more than once: 'b'"),
        ({"id": ["", "b", "c"]}, "1 labelled rows have no id"),
        ({"label": ["NA", " ", "mel"]}, "1 images have no label: 'b'"),
        ({"label": ["NA", "mell", "mel"]}, "'mell'"),
        ({"group": ["1", "", "1"]}, "1 images have no group: 'b'"),
        ({"path": ["x", "y", ""]}, "1 labelled ids have no image file: 'c'"),
        ({"given_split": ["train", "dev", ""]}, "'dev'"),
    ],
)
def test_inconsistent_rows_are_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        manifest(table(**changes))


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(DataError) as caught:
        manifest(table(id=["b", "b", "c"], label=["NA", "", "mel"], group=["1", "", "1"]))

    assert all(word in str(caught.value) for word in ("more than once", "no label", "no group"))


@pytest.mark.parametrize("classes", [("mel",), ("mel", "mel"), ("mel", " ")])
def test_classes_must_be_two_or_more_and_different(classes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"classes|class names"):
        manifest(table(), classes=classes)


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="no labelled images"):
        manifest(table().iloc[:0])


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match="given_split"):
        manifest(table().drop(columns="given_split"))


def test_an_unknown_label_source_is_refused() -> None:
    with pytest.raises(DataError, match="placeholder"):
        manifest(table(), label_source="guess")


def test_long_lists_of_offenders_are_cut_and_counted() -> None:
    n = 40
    rows = pd.concat([table()] * n, ignore_index=True)
    rows["id"] = [f"i{k}" for k in range(3 * n)]
    rows["label"] = ""

    with pytest.raises(DataError, match="'i4' and 115 more"):
        manifest(rows)


def test_a_saved_manifest_comes_back_equal_with_its_types(tmp_path: Path) -> None:
    rows = table(
        row=pd.array([3, 0, 2], dtype="Int64"),
        age=[50.0, np.nan, 0.1 + 0.2],
        sex=["male", "", "NA"],
        seen=[True, False, True],
        count=[1, 2, 3],
    )
    waiting = pd.DataFrame(
        {"id": ["t1"], "path": ["t/1.tif"], "row": pd.array([pd.NA], dtype="Int64")}
    )
    before = manifest(rows, unlabelled=waiting)

    save(before, tmp_path / "deep" / "manifest.csv")
    after = load(tmp_path / "deep" / "manifest.csv")

    pd.testing.assert_frame_equal(after.table, before.table)
    pd.testing.assert_frame_equal(after.unlabelled, before.unlabelled)
    assert (after.source, after.root, after.classes) == (before.source, before.root, before.classes)
    assert (after.group_kind, after.label_source) == (before.group_kind, before.label_source)


def test_saving_leaves_nothing_but_the_named_files(tmp_path: Path) -> None:
    save(manifest(table()), tmp_path / "manifest.csv")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.csv", "manifest.json"]


def test_a_name_that_is_not_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.csv"):
        save(manifest(table()), tmp_path / "manifest.json")


def test_a_shortened_table_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    save(manifest(table()), path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))

    with pytest.raises(DataError, match="should have 3 rows"):
        load(path)


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    save(manifest(table()), path)
    facts = json.loads(facts_path(path).read_text())
    facts_path(path).write_text(json.dumps(facts | {"format_version": 99}))

    with pytest.raises(DataError, match="99"):
        load(path)


@pytest.mark.parametrize("lost", ["manifest.csv", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, lost: str) -> None:
    save(manifest(table()), tmp_path / "manifest.csv")
    (tmp_path / lost).unlink()

    with pytest.raises(DataError, match=lost):
        load(tmp_path / "manifest.csv")
