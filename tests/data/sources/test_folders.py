"""A folder a class, with and without given splits."""

from pathlib import Path

import pytest

import layouts
from histo_mlflow.data.sources import listing, to_manifest
from histo_mlflow.errors import DataError


def test_the_id_holds_the_class_since_names_repeat(tmp_path: Path) -> None:
    rows = listing("folders", layouts.build_folders(tmp_path)).rows

    assert {"Benign/3.jpg", "Malignant/3.jpg"} <= set(rows["id"])
    assert (rows["id"] == rows["path"]).all()


def test_given_splits_are_read_from_the_folder_above(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path, splits=("train", "Validation", "test"))

    rows = listing("folders", root).rows.set_index("id")

    assert rows.loc["Validation/Benign/1.jpg", "given_split"] == "val"
    assert rows.loc["train/Malignant/0.jpg", "given_split"] == "train"


def test_a_class_may_be_called_test_when_there_is_no_train(tmp_path: Path) -> None:
    found = listing("folders", layouts.build_folders(tmp_path, classes=("control", "test")))

    assert found.classes == ("control", "test")
    assert set(found.rows["given_split"]) == {""}


def test_split_folders_beside_other_folders_are_refused(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path, splits=("train", "test"))
    (root / "data").mkdir()

    with pytest.raises(DataError, match="beside test, train it holds data, which is no split"):
        listing("folders", root)


def test_images_lie_at_any_depth_below_their_class(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path)
    (root / "Benign" / "patient_7").mkdir()
    (root / "Benign" / "0.jpg").rename(root / "Benign" / "patient_7" / "0.jpg")

    rows = listing("folders", root).rows.set_index("id")

    assert rows.loc["Benign/patient_7/0.jpg", "label"] == "Benign"


def test_an_image_outside_the_classes_is_a_file_without_a_row(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path, splits=("train", "test"))
    layouts.picture(0, 0).save(root / "train" / "stray.png")
    layouts.picture(0, 0).save(root / "stray.png")

    found = listing("folders", root)

    assert set(found.files["path"]) - set(found.rows["path"]) == {"stray.png", "train/stray.png"}


def test_an_empty_class_folder_is_a_known_class(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path)
    (root / "Unsure").mkdir()

    assert listing("folders", root).classes == ("Benign", "Malignant", "Unsure")


def test_class_folders_that_are_all_empty_give_no_rows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    found = listing("folders", tmp_path)

    assert len(found.rows) == len(found.files) == 0
    with pytest.raises(DataError, match="no labelled images"):
        to_manifest(found)


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path, classes=("Benign",))

    with pytest.raises(DataError, match="at least two class folders"):
        listing("folders", root)


def test_classes_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path, splits=("train",))
    (root / "test" / "benign").mkdir(parents=True)

    with pytest.raises(DataError, match="differ only in case"):
        listing("folders", root)


def test_files_that_cannot_be_decoded_are_listed_not_overlooked(tmp_path: Path) -> None:
    root = layouts.build_folders(tmp_path)
    (root / "Benign" / "new.webp").write_bytes(b"RIFF")

    assert "Benign/new.webp" in set(listing("folders", root).rows["path"])


def test_real_benign_malignant_images_are_read(realdata: Path) -> None:
    manifest = to_manifest(listing("folders", realdata / "benign_malignant"))

    assert manifest.class_counts() == {"Benign": 700, "Malignant": 700}
    assert {"Benign/1000.jpg"} <= set(manifest.table["id"])
