"""The scan: every file read once, remembered, and read again when it changed."""

import hashlib
import os
import time
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from histo_mlflow.data import scan as scan_module
from histo_mlflow.data.checks import Level, check, worst
from histo_mlflow.data.scan import scan
from histo_mlflow.data.sources import listing
from histo_mlflow.vision.decode import inspect
from layouts import build_folders, build_ham10000, build_pcam_hdf5, picture


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that were decoded, in order."""
    seen: list[int] = []

    def counting(data: bytes) -> object:
        seen.append(len(data))
        return inspect(data)

    monkeypatch.setattr(scan_module, "inspect", counting)
    return seen


def scanned(root: Path, cache: Path, source: str = "folders", **options: int) -> pd.DataFrame:
    return scan(listing(source, root), cache, progress=False, **options)


def test_the_facts_are_those_of_the_files(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data", 6)
    picture(1, 0, (30, 20)).convert("L").save(root / "Benign" / "grey.png")
    Image.new("RGB", (10, 12), "white").save(root / "Malignant" / "white.tif")
    facts = scanned(root, tmp_path / "cache").set_index("path")
    assert len(facts) == 8
    for path, row in facts.iterrows():
        data = (root / str(path)).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert row["size"] == len(data)
        assert row["problem"] == ""
        with Image.open(root / str(path)) as image:
            assert (row["format"], row["mode"]) == (image.format, image.mode)
            assert (row["width"], row["height"]) == image.size
    assert facts.index[facts["constant"]].tolist() == ["Malignant/white.tif"]


def test_problems_are_facts_not_errors(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data", 6)
    whole = (root / "Benign" / "0.jpg").read_bytes()
    (root / "Benign" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "Benign" / "1.jpg").write_bytes(b"")
    (root / "Benign" / "2.jpg").write_bytes(b"GIF89a and so on")
    problems = scanned(root, tmp_path / "cache").set_index("path")["problem"]
    assert problems["Benign/0.jpg"].startswith("truncated")
    assert problems["Benign/1.jpg"] == "empty file"
    assert problems["Benign/2.jpg"] == "not a JPEG, PNG or TIFF"
    assert (problems.filter(like="Malignant") == "").all()


def test_a_file_that_is_gone_since_the_listing_is_a_problem(tmp_path: Path) -> None:
    listed = listing("folders", build_folders(tmp_path / "data", 4))
    (listed.root / "Benign" / "0.jpg").unlink()
    (listed.root / "Benign" / "1.jpg").write_bytes(b"shorter")
    facts = scan(listed, tmp_path / "cache", progress=False).set_index("path")
    assert facts.loc["Benign/0.jpg", "problem"] == "cannot be read: No such file or directory"
    assert str(facts.loc["Benign/1.jpg", "problem"]).startswith("changed while it was read")


def test_unchanged_files_are_not_read_again(tmp_path: Path, reads: list[int]) -> None:
    root = build_folders(tmp_path / "data", 10)
    first = scanned(root, tmp_path / "cache")
    assert len(reads) == 10
    again = scanned(root, tmp_path / "cache")
    assert len(reads) == 10
    pd.testing.assert_frame_equal(first, again)


def test_only_changed_and_new_files_are_read_again(tmp_path: Path, reads: list[int]) -> None:
    root = build_folders(tmp_path / "data", 10)
    before = scanned(root, tmp_path / "cache").set_index("path")["sha256"]
    reads.clear()
    picture(99, 1).save(root / "Benign" / "3.jpg")
    picture(98, 1).save(root / "Benign" / "new.jpg")
    (root / "Malignant" / "0.jpg").unlink()
    after = scanned(root, tmp_path / "cache").set_index("path")["sha256"]
    assert len(reads) == 2
    assert set(after.index) ^ set(before.index) == {"Benign/new.jpg", "Malignant/0.jpg"}
    shared = before.index.intersection(after.index)
    assert shared[before[shared] != after[shared]].tolist() == ["Benign/3.jpg"]


def test_a_file_of_the_same_size_and_another_time_is_read_again(
    tmp_path: Path, reads: list[int]
) -> None:
    root = build_folders(tmp_path / "data", 4)
    scanned(root, tmp_path / "cache")
    reads.clear()
    path = root / "Benign" / "0.jpg"
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))
    scanned(root, tmp_path / "cache")
    assert len(reads) == 1


def test_threads_do_not_change_the_outcome(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data", 80, size=(16, 16))
    one = scanned(root, tmp_path / "one", workers=1)
    four = scanned(root, tmp_path / "four", workers=4)
    pd.testing.assert_frame_equal(one, four)


def test_an_interrupted_scan_keeps_what_it_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[int]
) -> None:
    root = build_folders(tmp_path / "data", 100, size=(16, 16))
    done = 0

    def interrupted(data: bytes) -> object:
        nonlocal done
        done += 1
        if done > 70:
            raise KeyboardInterrupt
        return inspect(data)

    with monkeypatch.context() as patch:
        patch.setattr(scan_module, "inspect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scanned(root, tmp_path / "cache", workers=1)
    assert len(scanned(root, tmp_path / "cache")) == 100
    assert len(reads) == 100 - 64  # two whole handfuls of 32 were kept


def test_a_damaged_memory_is_said_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = build_folders(tmp_path / "data", 4)
    first = scanned(root, tmp_path / "cache")
    (cache,) = (tmp_path / "cache" / "scans").iterdir()
    cache.write_bytes(b"not parquet")
    pd.testing.assert_frame_equal(first, scanned(root, tmp_path / "cache"))
    assert "unreadable, all files are read anew" in caplog.text


def test_hdf5_files_are_hashed_and_measured_by_their_shape(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    root = build_pcam_hdf5(tmp_path / "data")
    facts = scanned(root, tmp_path / "cache", "pcam")
    assert facts["format"].tolist() == ["HDF5"] * 3
    assert set(zip(facts["width"], facts["height"], facts["mode"], strict=True)) == {
        (96, 96, "RGB")
    }
    data = (root / facts["path"][0]).read_bytes()
    assert facts["sha256"][0] == hashlib.sha256(data).hexdigest()


def test_two_data_sets_do_not_share_a_memory(tmp_path: Path) -> None:
    scanned(build_folders(tmp_path / "one", 4), tmp_path / "cache")
    scanned(build_ham10000(tmp_path / "two", 7), tmp_path / "cache", "ham10000")
    assert len(list((tmp_path / "cache" / "scans").iterdir())) == 2


@pytest.mark.slow
def test_a_second_look_at_all_of_ham10000_takes_less_than_a_second(
    realdata: Path, tmp_path: Path
) -> None:
    root = realdata / "ham10000_all_200x150"
    scanned(root, tmp_path, "ham10000")
    start = time.process_time()  # of this process alone: other tests may share the cores
    listed = listing("ham10000", root)
    findings = check(listed, scan(listed, tmp_path, progress=False))
    assert time.process_time() - start < 1.0
    assert worst(findings) is Level.WARN
