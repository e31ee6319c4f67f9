"""The data digest: changed by what is learnt from, and by nothing else."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from histo_mlflow.data.fingerprint import data_digest
from histo_mlflow.data.manifest import Manifest
from histo_mlflow.data.scan import scan
from histo_mlflow.data.sources import listing, to_manifest
from histo_mlflow.errors import DataError
from layouts import build_ham10000, build_pcam_hdf5, picture


def digest(root: Path, cache: Path, source: str = "ham10000") -> str:
    listed = listing(source, root)
    return data_digest(to_manifest(listed), scan(listed, cache, progress=False))


@pytest.fixture
def ham(tmp_path: Path) -> Path:
    return build_ham10000(tmp_path / "data", n=14)


def test_a_copy_elsewhere_has_the_same_digest(ham: Path, tmp_path: Path) -> None:
    shutil.copytree(ham, tmp_path / "copy")
    part_1, part_2 = (tmp_path / "copy" / f"HAM10000_images_part_{part}" for part in (1, 2))
    first = min(part_1.iterdir())
    first.rename(part_2 / first.name)
    one, other = digest(ham, tmp_path / "cache"), digest(tmp_path / "copy", tmp_path / "cache")
    assert one == other
    assert len(one) == 64


def test_one_changed_image_changes_the_digest(ham: Path, tmp_path: Path) -> None:
    before = digest(ham, tmp_path / "cache")
    picture(99, 0, (60, 45)).save(next(ham.rglob("*.jpg")))
    assert digest(ham, tmp_path / "cache") != before


@pytest.mark.parametrize(
    ("column", "value", "changes"),
    [("label", "nv", True), ("group", "HAM_X", True), ("id", "ISIC_X", True), ("age", 1.0, False)],
)
def test_ids_labels_and_groups_count_and_other_metadata_does_not(
    ham: Path, tmp_path: Path, column: str, value: object, changes: bool
) -> None:
    listed = listing("ham10000", ham)
    facts = scan(listed, tmp_path / "cache", progress=False)
    manifest = to_manifest(listed)
    table = manifest.table.copy()
    table.loc[0, column] = value
    changed = dataclasses.replace(manifest, table=table)
    assert (data_digest(changed, facts) != data_digest(manifest, facts)) is changes


def test_the_order_of_the_rows_does_not_count(ham: Path, tmp_path: Path) -> None:
    listed = listing("ham10000", ham)
    facts = scan(listed, tmp_path / "cache", progress=False)
    manifest = to_manifest(listed)
    turned = dataclasses.replace(manifest, table=manifest.table.iloc[::-1])
    assert data_digest(turned, facts) == data_digest(manifest, facts)


def test_rows_of_an_hdf5_file_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    listed = listing("pcam", build_pcam_hdf5(tmp_path / "data"))
    facts = scan(listed, tmp_path / "cache", progress=False)
    manifest = to_manifest(listed)
    rows = manifest.table["row"].tolist()
    swapped: Manifest = dataclasses.replace(
        manifest,
        table=manifest.table.assign(row=[rows[1], rows[0], *rows[2:]]).astype({"row": "Int64"}),
    )
    assert data_digest(swapped, facts) != data_digest(manifest, facts)


def test_an_image_that_was_not_scanned_is_an_error(ham: Path, tmp_path: Path) -> None:
    listed = listing("ham10000", ham)
    facts = scan(listed, tmp_path / "cache", progress=False)
    with pytest.raises(DataError, match="1 of 14 images have no digest"):
        data_digest(to_manifest(listed), facts.iloc[1:])
