"""What every source owes, whatever its layout: one set of tests over all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import layouts
from histo_mlflow.data.manifest import COLUMNS, UNLABELLED_COLUMNS, load, save
from histo_mlflow.data.sources import SOURCES, listing, to_manifest
from histo_mlflow.data.sources._listing import Listing, SourceOptions
from histo_mlflow.errors import DataError


@dataclass(frozen=True)
class Case:
    """A tiny data set of one source and what must be read from it."""

    source: str
    build: Callable[[Path], Path]
    options: SourceOptions
    classes: tuple[str, ...]
    images: int
    groups: int
    group_kind: str
    label_source: str
    given_splits: tuple[str, ...] = ("",)
    unlabelled: int = 0


CASES = {
    "ham10000": Case(
        "ham10000",
        layouts.build_ham10000,
        SourceOptions(),
        layouts.HAM10000_CLASSES,
        images=56,
        groups=42,
        group_kind="lesion",
        label_source="metadata",
    ),
    "pcam_kaggle": Case(
        "pcam",
        layouts.build_pcam,
        SourceOptions(),
        layouts.PCAM_CLASSES,
        images=48,
        groups=8,
        group_kind="slide",
        label_source="metadata",
        unlabelled=6,
    ),
    "pcam_hdf5": Case(
        "pcam",
        layouts.build_pcam_hdf5,
        SourceOptions(),
        layouts.PCAM_CLASSES,
        images=48,
        groups=12,
        group_kind="slide",
        label_source="metadata",
        given_splits=("test", "train", "val"),
    ),
    "folders": Case(
        "folders",
        layouts.build_folders,
        SourceOptions(),
        layouts.FOLDER_CLASSES,
        images=40,
        groups=40,
        group_kind="image",
        label_source="folder",
    ),
    "folders_with_splits": Case(
        "folders",
        lambda root: layouts.build_folders(root, splits=("train", "valid", "test")),
        SourceOptions(),
        layouts.FOLDER_CLASSES,
        images=40,
        groups=40,
        group_kind="image",
        label_source="folder",
        given_splits=("test", "train", "val"),
    ),
    "spider_skin": Case(
        "spider_skin",
        layouts.build_spider,
        SourceOptions(metadata_csv="metadata.csv", **layouts.SPIDER_COLUMNS),
        layouts.SPIDER_CLASSES,
        images=36,
        groups=6,
        group_kind="slide",
        label_source="metadata",
    ),
    "demo": Case(
        "demo",
        lambda root: root,
        SourceOptions(demo_images=48),
        ("normal", "tumour"),
        images=48,
        groups=6,
        group_kind="slide",
        label_source="synthetic",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def found(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Listing:
    return listing(case.source, case.build(tmp_path_factory.mktemp("data")), case.options)


def test_every_source_has_a_case() -> None:
    assert {case.source for case in CASES.values()} == set(SOURCES)


def test_sources_are_listed_under_their_own_name() -> None:
    assert [source.name for source in SOURCES.values()] == list(SOURCES)


def test_facts_are_those_of_the_data_set(case: Case, found: Listing) -> None:
    facts = (found.source, found.classes, found.group_kind, found.label_source)

    assert facts == (case.source, case.classes, case.group_kind, case.label_source)


def test_every_image_of_the_set_is_a_row_with_a_label_and_a_group(
    case: Case, found: Listing
) -> None:
    assert len(found.rows) == case.images
    assert found.rows["group"].nunique() == case.groups
    assert set(found.rows["label"]) == set(case.classes)
    assert tuple(sorted(set(found.rows["given_split"]))) == case.given_splits
    assert len(found.unlabelled) == case.unlabelled
    assert found.notes == ()


def test_tables_have_the_agreed_columns_and_types(found: Listing) -> None:
    assert set(COLUMNS) <= set(found.rows.columns)
    assert set(UNLABELLED_COLUMNS) <= set(found.unlabelled.columns)
    assert str(found.rows["row"].dtype) == str(found.unlabelled["row"].dtype) == "Int64"
    text = found.rows[[name for name in COLUMNS if name != "row"]]
    assert not text.isna().any(axis=None)
    assert all(str(dtype) == "str" for dtype in text.dtypes)
    assert list(found.files.columns) == ["path", "size", "mtime_ns"]
    assert found.files[["size", "mtime_ns"]].dtypes.tolist() == [np.dtype("int64")] * 2
    assert list(found.rows.index) == list(range(len(found.rows)))


def test_files_are_those_on_disk_each_once(found: Listing) -> None:
    on_disk = sorted(
        path.relative_to(found.root).as_posix()
        for path in found.root.rglob("*")
        if path.suffix in {".jpg", ".png", ".tif"} or path.name.endswith("_x.h5")
    )

    assert sorted(found.files["path"]) == on_disk
    for path, size, mtime_ns in found.files.itertuples(index=False):
        facts = (found.root / path).stat()
        assert (size, mtime_ns) == (facts.st_size, facts.st_mtime_ns)


def test_rows_and_unlabelled_images_claim_every_file(found: Listing) -> None:
    claimed = {*found.rows["path"], *found.unlabelled["path"]}

    assert claimed == set(found.files["path"])


def test_reading_twice_gives_the_same(case: Case, found: Listing) -> None:
    root = found.root.parent if case.source == "demo" else found.root

    again = listing(case.source, root, case.options)

    pd.testing.assert_frame_equal(again.rows, found.rows)
    pd.testing.assert_frame_equal(again.files, found.files)


def test_the_listing_makes_a_manifest_that_survives_its_files(
    found: Listing, tmp_path: Path
) -> None:
    before = to_manifest(found)
    assert tuple(before.table.columns[: len(COLUMNS)]) == COLUMNS

    save(before, tmp_path / "manifest.csv")
    after = load(tmp_path / "manifest.csv")

    pd.testing.assert_frame_equal(after.table, before.table)
    pd.testing.assert_frame_equal(after.unlabelled, before.unlabelled)
    assert after.targets().tolist() == before.targets().tolist()


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "demo"])
@pytest.mark.parametrize("state", ["absent", "empty", "a file"])
def test_missing_data_is_explained(name: str, state: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if state == "empty":
        root.mkdir()
    elif state == "a file":
        root.write_text("")
    options = SourceOptions(metadata_csv="metadata.csv", **layouts.SPIDER_COLUMNS)

    with pytest.raises(DataError) as caught:
        listing(name, root, options)

    message = str(caught.value)
    assert str(root) in message
    assert SOURCES[name].layout.rstrip() in message
    assert SOURCES[name].how_to_get in message


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ham10000, pcam, folders, spider_skin, demo"):
        listing("ham1000", tmp_path)


def test_a_missing_image_makes_no_manifest(tmp_path: Path) -> None:
    root = layouts.build_ham10000(tmp_path)
    next((root / "HAM10000_images_part_1").iterdir()).unlink()

    with pytest.raises(DataError, match="1 labelled ids have no image file"):
        to_manifest(listing("ham10000", root))
