"""SPIDER-Skin: patches anywhere below the folder, described by a table the recipe names."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import layouts
from histo_mlflow.data.sources import listing, to_manifest
from histo_mlflow.data.sources._listing import SourceOptions
from histo_mlflow.errors import DataError

OPTIONS = SourceOptions(metadata_csv="metadata.csv", **layouts.SPIDER_COLUMNS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layouts.build_spider(tmp_path)


def rewrite(root: Path, table: pd.DataFrame) -> None:
    table.to_csv(root / "metadata.csv", index=False)


def table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "metadata.csv")


def test_options_that_are_not_given_are_all_named(root: Path) -> None:
    with pytest.raises(DataError, match="needs metadata_csv, image_column, class_column"):
        listing("spider_skin", root)


def test_a_column_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"lacks the column tissue; it has patch, class") as caught:
        listing("spider_skin", root, replace(OPTIONS, class_column="tissue"))

    assert str(caught.value).endswith(
        ": --image-column, --class-column and --group-column name them."
    )


def test_placeholder_labels_are_marked(root: Path) -> None:
    found = listing("spider_skin", root, replace(OPTIONS, placeholder_labels=True))

    assert to_manifest(found).label_source == "placeholder"


def test_without_a_slide_column_each_image_is_its_own_group(root: Path) -> None:
    found = listing("spider_skin", root, replace(OPTIONS, group_column=None))

    assert found.group_kind == "image"
    assert found.rows["group"].is_unique
    assert "slide" in found.rows.columns


@pytest.mark.parametrize(
    "shorten",
    [
        lambda path: path.rsplit("/", 1)[-1],
        lambda path: path.rsplit("/", 1)[-1].removesuffix(".jpg"),
        lambda path: "./" + path,
        lambda path: path.replace("/", "\\"),
    ],
    ids=["file name", "stem", "leading dot", "backslashes"],
)
def test_images_may_be_named_in_several_ways(root: Path, shorten: object) -> None:
    before = listing("spider_skin", root, OPTIONS).rows["path"]
    rewrite(root, table(root).assign(patch=lambda rows: rows["patch"].map(shorten)))

    after = listing("spider_skin", root, OPTIONS).rows["path"]

    assert after.tolist() == before.tolist()


def test_a_name_that_occurs_twice_matches_nothing(root: Path) -> None:
    (root / "copies").mkdir()
    twin = "images/slide_00/patch_0000.jpg"
    (root / "copies" / "patch_0000.jpg").write_bytes((root / twin).read_bytes())
    (root / "copies" / "patch_0001.png").write_bytes(b"same stem, other suffix")
    names = table(root)["patch"].str.rsplit("/", n=1).str[-1].str.removesuffix(".jpg")
    rewrite(root, table(root).assign(patch=names))

    rows = listing("spider_skin", root, OPTIONS).rows

    assert rows["path"].tolist()[:2] == ["", ""]
    assert (rows["path"].iloc[2:] != "").all()


@pytest.mark.parametrize("path", ["../metadata.csv", "/etc/hostname", "images/../metadata.csv"])
def test_paths_out_of_the_folder_match_nothing(root: Path, path: str) -> None:
    rows = table(root)
    rows.loc[0, "patch"] = path
    rewrite(root, rows)

    assert listing("spider_skin", root, OPTIONS).rows["path"].iloc[0] == ""


def test_blank_classes_are_no_class(root: Path) -> None:
    rows = table(root)
    rows.loc[0, "class"] = " "
    rewrite(root, rows)

    found = listing("spider_skin", root, OPTIONS)

    assert found.classes == layouts.SPIDER_CLASSES
    assert found.rows["label"].iloc[0] == " "


def test_a_metadata_column_called_like_one_of_ours_does_not_replace_it(root: Path) -> None:
    rewrite(root, table(root).assign(path="elsewhere", label="other", quality="good"))

    rows = listing("spider_skin", root, OPTIONS).rows

    assert rows["path"].str.startswith("images/").all()
    assert set(rows["label"]) == set(layouts.SPIDER_CLASSES)
    assert set(rows["quality"]) == {"good"}
