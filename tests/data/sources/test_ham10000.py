"""HAM10000 in Kaggle's layout, its subsets and its defects."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import layouts
from histo_mlflow.data.sources import listing, to_manifest
from histo_mlflow.data.sources._listing import SourceOptions
from histo_mlflow.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layouts.build_ham10000(tmp_path)


def edit(root: Path, old: str, new: str) -> None:
    table = root / "HAM10000_metadata.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


def test_metadata_is_kept_and_blank_ages_are_unknown(root: Path) -> None:
    rows = listing("ham10000", root).rows

    assert {"dx_type", "age", "sex", "localization"} <= set(rows.columns)
    assert rows["age"].dtype == np.float64
    assert int(rows["age"].isna().sum()) == 6


def test_folder_names_may_have_any_case(root: Path) -> None:
    for part in (1, 2):
        (root / f"HAM10000_images_part_{part}").rename(root / f"ham10000_images_part_{part}")

    assert (listing("ham10000", root).rows["path"] != "").all()


def test_one_part_alone_leaves_the_other_rows_without_a_file(root: Path) -> None:
    (root / "HAM10000_images_part_2").rename(root / "elsewhere")

    rows = listing("ham10000", root).rows

    assert int((rows["path"] == "").sum()) == 28


def test_another_table_can_be_named(root: Path) -> None:
    (root / "HAM10000_metadata.csv").rename(root / "mine.csv")

    assert len(listing("ham10000", root, SourceOptions(metadata_csv="mine.csv")).rows) == 56


def test_defects_are_kept_for_the_checks(root: Path) -> None:
    edit(root, "ISIC_0024307,bcc", "ISIC_0024306,")
    edit(root, "df,histo,45.0", "Df ,histo,old")

    found = listing("ham10000", root)

    assert found.rows["id"].duplicated().sum() == 1
    assert found.rows["label"].tolist()[1] == ""
    assert "Df " in set(found.rows["label"])
    assert "HAM10000_images_part_1/ISIC_0024307.jpg" not in set(found.rows["path"])
    assert found.notes == ("1 ages are not numbers and count as unknown",)


def test_a_missing_column_is_named_with_the_columns_there_are(root: Path) -> None:
    edit(root, "lesion_id", "lesion")

    with pytest.raises(DataError) as caught:
        listing("ham10000", root)

    assert str(caught.value) == (
        f"{root / 'HAM10000_metadata.csv'} lacks the column lesion_id; it has lesion, image_id, "
        "dx, dx_type, age, sex, localization: rename the columns of the table."
    )


def test_a_table_that_is_no_table_is_refused(root: Path) -> None:
    (root / "HAM10000_metadata.csv").write_bytes(b"\xff\xfe\x00 not text")

    with pytest.raises(DataError, match="cannot be read"):
        listing("ham10000", root)


def test_hidden_files_and_other_files_are_no_images(root: Path) -> None:
    (root / "HAM10000_images_part_1" / "._ISIC_0024306.jpg").write_bytes(b"x")
    (root / "HAM10000_images_part_1" / "Thumbs.db").write_bytes(b"x")

    assert len(listing("ham10000", root).files) == 56


def test_a_byte_order_mark_is_no_part_of_the_first_column(root: Path) -> None:
    table = root / "HAM10000_metadata.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())

    assert listing("ham10000", root).rows["group"].iloc[0] == "HAM_0000000"


def test_all_10015_real_images_are_listed_as_published(realdata: Path) -> None:
    root = realdata / "ham10000_all_200x150"

    found = listing("ham10000", root)
    manifest = to_manifest(found)

    assert len(found.files) == found.expected.images == 10_015
    assert manifest.class_counts() == found.expected.class_counts
    assert manifest.table["group"].nunique() == 7_470
    assert int(manifest.table["age"].isna().sum()) == 57
    raw = pd.read_csv(root / "HAM10000_metadata.csv")
    assert manifest.table["id"].tolist() == raw["image_id"].tolist()
    assert manifest.table["label"].tolist() == raw["dx"].tolist()


def test_listing_10015_images_takes_well_under_half_a_second(realdata: Path) -> None:
    seconds = []
    for _ in range(3):
        start = time.process_time()  # of this process alone: other tests may share the cores
        listing("ham10000", realdata / "ham10000_all_200x150")
        seconds.append(time.process_time() - start)

    assert min(seconds) < 0.5
