"""PCam in its two forms: Kaggle's TIFF files and the original HDF5 files."""

import gzip
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import layouts
from histo_mlflow.data.sources import listing, to_manifest
from histo_mlflow.errors import DataError


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    return layouts.build_pcam(tmp_path)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return layouts.build_pcam_hdf5(tmp_path)


def test_labels_are_words(kaggle: Path) -> None:
    rows = listing("pcam", kaggle).rows.set_index("id")

    assert rows.loc[layouts.pcam_id(0), "label"] == "normal"
    assert rows.loc[layouts.pcam_id(1), "label"] == "tumour"


def test_without_a_slide_map_each_patch_is_its_own_group(tmp_path: Path) -> None:
    found = listing("pcam", layouts.build_pcam(tmp_path, slides=0))

    assert found.group_kind == "image"
    assert (found.rows["group"] == found.rows["id"]).all()


def test_patches_outside_a_partial_slide_map_are_their_own_groups_and_noted(kaggle: Path) -> None:
    path = kaggle / "patch_id_wsi_full.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-5]))

    found = listing("pcam", kaggle)

    alone = found.rows["group"] == found.rows["id"]
    assert int(alone.sum()) == 5
    assert len(found.notes) == 1
    assert "5 of 48 patches" in found.notes[0]


def test_the_largest_of_several_slide_maps_is_taken_and_named(kaggle: Path) -> None:
    layouts.write_csv(kaggle / "patch_id_wsi.csv", ("id", "wsi"), [(layouts.pcam_id(0), "other")])

    found = listing("pcam", kaggle)

    assert "other" not in set(found.rows["group"])
    assert found.notes == ("slides are taken from patch_id_wsi_full.csv, the largest of 2 maps",)


def test_a_patch_on_two_slides_is_refused(kaggle: Path) -> None:
    with (kaggle / "patch_id_wsi_full.csv").open("a") as file:
        file.write(f"{layouts.pcam_id(3)},elsewhere\n")

    with pytest.raises(DataError, match="1 patches on more than one slide"):
        listing("pcam", kaggle)


def test_the_images_to_predict_come_in_the_order_of_the_submission(kaggle: Path) -> None:
    found = listing("pcam", kaggle)

    assert found.unlabelled["id"].tolist() == [layouts.pcam_id(i) for i in range(48, 54)]
    assert found.unlabelled["path"].str.startswith("test/").all()


def test_without_a_submission_all_of_test_is_to_be_predicted(kaggle: Path) -> None:
    (kaggle / "sample_submission.csv").unlink()

    assert len(listing("pcam", kaggle).unlabelled) == 6


def test_training_needs_no_test_folder_but_its_absence_is_noted(kaggle: Path) -> None:
    (kaggle / "test").rename(kaggle / "elsewhere")

    found = listing("pcam", kaggle)

    assert len(to_manifest(found).table) == 48
    assert "nothing to predict" in found.notes[0]


def test_an_image_of_test_never_stands_in_for_one_of_train(kaggle: Path) -> None:
    name = f"{layouts.pcam_id(0)}.tif"
    (kaggle / "train" / name).rename(kaggle / "test" / name)

    assert listing("pcam", kaggle).rows["path"].iloc[0] == ""


def test_strange_labels_are_kept_for_the_checks(kaggle: Path) -> None:
    path = kaggle / "train_labels.csv"
    path.write_text(path.read_text().replace(",1\n", ",2\n", 1))

    assert "2" in set(listing("pcam", kaggle).rows["label"])


def test_real_kaggle_files_are_read(realdata: Path) -> None:
    found = listing("pcam", realdata / "pcam_kaggle")
    manifest = to_manifest(found)

    assert (len(manifest.table), len(manifest.unlabelled)) == (15, 29)
    assert (found.expected.images, found.expected.unlabelled) == (220_025, 57_458)


def test_hdf5_rows_point_at_their_pixels(original: Path) -> None:
    rows = listing("pcam", original).rows
    row = rows[rows["id"] == "valid-000003"].iloc[0]

    with h5py.File(original / row["path"], "r") as file:
        stored = file["x"][row["row"]]
    assert (row["label"], row["given_split"]) == ("tumour", "val")
    np.testing.assert_array_equal(stored, np.asarray(layouts.picture(1_003, 1)))


def test_hdf5_without_meta_tables_has_no_slides(tmp_path: Path) -> None:
    found = listing("pcam", layouts.build_pcam_hdf5(tmp_path, meta=False))

    assert found.group_kind == "image"
    assert found.notes == ()


def test_hdf5_with_some_meta_tables_has_no_slides_and_says_so(original: Path) -> None:
    (original / "camelyonpatch_level_2_split_valid_meta.csv").unlink()

    found = listing("pcam", original)

    assert found.group_kind == "image"
    assert (found.rows["group"] == found.rows["id"]).all()
    assert "meta table of valid is missing" in found.notes[0]


def test_packed_hdf5_files_are_refused_with_the_command_that_unpacks_them(original: Path) -> None:
    path = original / "camelyonpatch_level_2_split_train_x.h5"
    with gzip.open(path.with_suffix(".h5.gz"), "wb") as file:
        file.write(path.read_bytes())
    path.unlink()

    with pytest.raises(DataError, match="gunzip"):
        listing("pcam", original)


@pytest.mark.parametrize("what", ["x", "y"])
def test_a_truncated_hdf5_file_is_refused_by_name(original: Path, what: str) -> None:
    path = original / f"camelyonpatch_level_2_split_test_{what}.h5"
    path.write_bytes(path.read_bytes()[:700])

    with pytest.raises(DataError, match=f"test_{what}.h5 is not a whole HDF5 file"):
        listing("pcam", original)


def test_labels_that_do_not_match_the_patches_in_number_are_refused(original: Path) -> None:
    with h5py.File(original / "camelyonpatch_level_2_split_test_y.h5", "w") as file:
        file.create_dataset("y", data=np.zeros((5, 1, 1, 1), np.uint8))

    with pytest.raises(DataError, match=r"12 patches but .* 5 labels"):
        listing("pcam", original)


def test_a_missing_label_file_is_named(original: Path) -> None:
    (original / "camelyonpatch_level_2_split_valid_y.h5").unlink()

    with pytest.raises(DataError, match=r"valid_y\.h5 is missing"):
        listing("pcam", original)


def test_hdf5_without_h5py_says_what_to_install(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(DataError, match=r"pip install 'histo-mlflow\[hdf5\]'"):
        listing("pcam", original)
