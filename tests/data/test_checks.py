"""The checks: ten seeded defects are ten findings, clean sets pass, and nothing raises."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from histo_mlflow.data.checks import Finding, Level, check, render, to_json, worst
from histo_mlflow.data.scan import scan
from histo_mlflow.data.sources import listing
from histo_mlflow.data.sources._listing import Expected, Listing, SourceOptions
from layouts import (
    SPIDER_COLUMNS,
    build_folders,
    build_ham10000,
    build_pcam,
    build_pcam_hdf5,
    build_spider,
    picture,
)

SPIDER = SourceOptions(metadata_csv="metadata.csv", **SPIDER_COLUMNS)


def found(listed: Listing, cache: Path) -> dict[str, Finding]:
    findings = check(listed, scan(listed, cache, progress=False))
    by_name = {finding.check: finding for finding in findings}
    assert len(by_name) == len(findings)
    return by_name


def looked(source: str, root: Path, options: SourceOptions | None = None) -> dict[str, Finding]:
    return found(listing(source, root, options), root.parent / "cache")


def not_passed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.level is not Level.PASS}


def seed_ten_defects(root: Path) -> dict[str, tuple[Level, str]]:
    """Spoil a HAM10000 copy in ten ways; return the finding each must cause, and its offender."""
    path = root / "HAM10000_metadata.csv"
    table = pd.read_csv(path, dtype="str", keep_default_na=False)
    where = {file.stem: file for file in root.rglob("*.jpg")}
    # One image each, of different classes, from classes that keep others.
    ids = {dx: table.loc[table["dx"] == dx, "image_id"].tolist() for dx in ("nv", "mel", "bkl")}
    missing, truncated, empty = ids["nv"][:3]
    cmyk, twice, typo = ids["mel"][:3]
    blank, constant = ids["bkl"][:2]
    size = Image.open(where[cmyk]).size

    where[missing].unlink()
    extra = where[cmyk].with_name("ISIC_9999999.jpg")
    picture(4711, 3, size).save(extra)
    data = where[truncated].read_bytes()
    where[truncated].write_bytes(data[: len(data) * 6 // 10])
    where[empty].write_bytes(b"")
    Image.open(where[cmyk]).convert("CMYK").save(where[cmyk])
    table = pd.concat([table, table[table["image_id"] == twice]], ignore_index=True)
    table.loc[table["image_id"] == typo, "dx"] = "mell"
    table.loc[table["image_id"] == blank, "dx"] = ""
    Image.new("RGB", size, (200, 150, 150)).save(where[constant])
    for name in table.loc[table["dx"] == "df", "image_id"]:
        where[name].unlink()
    table = table[table["dx"] != "df"]
    table.to_csv(path, index=False)

    def below(file: Path) -> str:
        return file.relative_to(root).as_posix()

    return {
        "missing-images": (Level.FAIL, missing),
        "unlisted-images": (Level.WARN, below(extra)),
        "truncated-images": (Level.FAIL, below(where[truncated])),
        "empty-files": (Level.FAIL, below(where[empty])),
        "image-modes": (Level.FAIL, f"{below(where[cmyk])} (CMYK)"),
        "duplicate-ids": (Level.FAIL, twice),
        "unknown-labels": (Level.FAIL, "'mell' in 1 row (did you mean 'mel'?)"),
        "blank-labels": (Level.FAIL, blank),
        "constant-images": (Level.WARN, below(where[constant])),
        "empty-classes": (Level.FAIL, "df"),
    }


def assert_ten_defects_found(root: Path) -> None:
    clean = looked("ham10000", root)
    assert worst(clean.values()) is not Level.FAIL
    seeded = seed_ten_defects(root)
    findings = looked("ham10000", root)
    assert len(seeded) == 10
    # As many as seeded and no other, but for what the set itself is warned of (its numbers).
    assert not_passed(findings) - not_passed(clean) - {"published-counts"} == set(seeded)
    for name, (level, offender) in seeded.items():
        assert findings[name].level is level, name
        assert (findings[name].offenders, findings[name].count) == ((offender,), 1), name


def test_ten_seeded_defects_are_ten_findings(tmp_path: Path) -> None:
    assert_ten_defects_found(build_ham10000(tmp_path / "data"))


def test_ten_defects_seeded_into_real_images_are_ten_findings(
    realdata: Path, tmp_path: Path
) -> None:
    shutil.copytree(realdata / "ham10000", tmp_path / "data")
    assert_ten_defects_found(tmp_path / "data")


@pytest.mark.parametrize(
    ("source", "name"),
    [("ham10000", "ham10000"), ("folders", "benign_malignant"), ("pcam", "pcam_kaggle")],
)
def test_real_sets_have_no_fail(realdata: Path, tmp_path: Path, source: str, name: str) -> None:
    findings = found(listing(source, realdata / name), tmp_path)
    assert worst(findings.values()) is Level.WARN
    assert not_passed(findings) <= {"published-counts", "groups"}


@pytest.mark.slow
def test_the_reduced_ham10000_is_warned_of_its_size_and_its_copies_only(
    realdata: Path, tmp_path: Path
) -> None:
    findings = found(listing("ham10000", realdata / "ham10000_all_200x150"), tmp_path)
    assert not_passed(findings) == {"image-sizes", "duplicate-content"}
    assert findings["image-sizes"].message == (
        "All 10,015 images are 200x150; the published are 600x450."
    )
    assert findings["duplicate-content"].count == 2
    assert findings["groups"].message == "10,015 images of 7,470 lesions, at most 6 of one."


@pytest.mark.parametrize(
    ("source", "build", "options", "warnings"),
    [
        ("ham10000", build_ham10000, None, {"image-sizes", "published-counts"}),
        ("pcam", build_pcam, None, {"published-counts"}),
        ("pcam", build_pcam_hdf5, None, {"published-counts"}),
        ("folders", build_folders, None, {"groups"}),
        ("spider_skin", build_spider, SPIDER, {"image-sizes", "published-counts"}),
    ],
    ids=["ham10000", "pcam", "pcam_hdf5", "folders", "spider_skin"],
)
def test_clean_layouts_pass(
    tmp_path: Path,
    source: str,
    build: Callable[[Path], Path],
    options: SourceOptions | None,
    warnings: set[str],
) -> None:
    if build is build_pcam_hdf5:
        pytest.importorskip("h5py")
    findings = looked(source, build(tmp_path / "data"), options)
    assert worst(findings.values()) is Level.WARN
    assert not_passed(findings) == warnings


def test_the_demo_is_called_synthetic(tmp_path: Path) -> None:
    options = SourceOptions(demo_images=200)
    findings = looked("demo", tmp_path / "data", options)
    assert worst(findings.values()) is Level.WARN
    assert "synthetic" in findings["label-source"].message


def test_every_message_is_one_sentence_with_five_offenders_at_most(tmp_path: Path) -> None:
    root = build_ham10000(tmp_path / "data")
    for path in sorted(root.rglob("*.jpg"))[:20]:
        path.write_bytes(b"")
    findings = looked("ham10000", root)
    assert (len(findings["empty-files"].offenders), findings["empty-files"].count) == (5, 20)
    assert findings["empty-files"].message == "20 image files of 56 are empty."
    for finding in findings.values():
        assert finding.message.endswith(".")
        assert "\n" not in finding.message


def test_a_set_where_all_is_wrong_still_raises_nothing(tmp_path: Path) -> None:
    root = build_ham10000(tmp_path / "data", n=14)
    table = pd.read_csv(root / "HAM10000_metadata.csv", dtype="str", keep_default_na=False)
    table[["lesion_id", "dx", "image_id"]] = ""
    table.to_csv(root / "HAM10000_metadata.csv", index=False)
    for path in root.rglob("*.jpg"):
        path.unlink()
    findings = looked("ham10000", root)
    failing = {name for name, finding in findings.items() if finding.level is Level.FAIL}
    assert failing == {
        "missing-images",
        "blank-ids",
        "blank-labels",
        "blank-groups",
        "empty-classes",
    }


def test_images_that_no_row_names_are_not_judged(tmp_path: Path) -> None:
    root = build_pcam(tmp_path / "data")
    (root / "train" / "stray.tif").write_bytes(b"")
    findings = looked("pcam", root)
    assert findings["unlisted-images"].offenders == ("train/stray.tif",)
    assert findings["empty-files"].level is Level.PASS


def test_images_to_predict_are_checked_too(tmp_path: Path) -> None:
    root = build_pcam(tmp_path / "data")
    one, other, *_ = sorted((root / "test").iterdir())
    one.unlink()
    other.write_bytes(other.read_bytes()[:500])
    findings = looked("pcam", root)
    assert findings["missing-images"].offenders == (one.stem,)
    assert findings["missing-images"].message == "1 row of 54 has no image file."
    assert findings["truncated-images"].offenders == (f"test/{other.name}",)


def test_an_image_that_is_labelled_and_to_be_predicted_is_refused(tmp_path: Path) -> None:
    listed = listing("pcam", build_pcam(tmp_path / "data"))
    both = pd.concat([listed.unlabelled, listed.rows[["id", "path", "row"]].head(1)])
    findings = found(dataclasses.replace(listed, unlabelled=both), tmp_path / "cache")
    assert findings["duplicate-ids"].level is Level.FAIL


def test_two_ids_for_one_image_are_refused(tmp_path: Path) -> None:
    root = build_spider(tmp_path / "data")
    table = pd.read_csv(root / "metadata.csv")
    again = table.head(1).assign(patch=table["patch"].head(1).str.rsplit("/", n=1).str[-1])
    pd.concat([table, again]).to_csv(root / "metadata.csv", index=False)
    findings = looked("spider_skin", root, SPIDER)
    assert findings["shared-files"].offenders == (
        "images/slide_00/patch_0000.jpg = patch_0000.jpg",
    )


def test_another_mode_is_named_and_goes_on(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data")
    path = root / "Benign" / "0.jpg"
    Image.open(path).convert("L").save(path)
    finding = looked("folders", root)["image-modes"]
    assert finding.level is Level.WARN
    assert finding.message == "1 image of 40 is not RGB but 1 L; they are converted to RGB."


def test_mixed_sizes_are_listed(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data")
    picture(0, 0, (70, 50)).save(root / "Benign" / "0.jpg")
    finding = looked("folders", root)["image-sizes"]
    assert finding.level is Level.WARN
    assert finding.message == "The images have 2 sizes: 39 of 64x64, 1 of 70x50."
    assert finding.offenders == ("Benign/0.jpg (70x50)",)


def test_copies_with_other_labels_are_named(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data")
    shutil.copy(root / "Benign" / "0.jpg", root / "Malignant" / "0.jpg")
    shutil.copy(root / "Benign" / "2.jpg", root / "Benign" / "3.jpg")
    finding = looked("folders", root)["duplicate-content"]
    assert finding.level is Level.WARN
    assert finding.message == (
        "4 of 40 image files are byte-identical copies, in 2 sets (1 with different labels)."
    )
    assert finding.offenders[0] == "Benign/0.jpg = Malignant/0.jpg"


def test_copies_in_other_groups_and_among_the_images_to_predict_are_named(tmp_path: Path) -> None:
    root = build_pcam(tmp_path / "data")
    table = listing("pcam", root).rows
    normal = table[table["label"] == "normal"].drop_duplicates("group")["path"].tolist()
    shutil.copy(root / normal[0], root / normal[1])
    shutil.copy(root / normal[2], next((root / "test").iterdir()))
    finding = looked("pcam", root)["duplicate-content"]
    assert "in 2 sets (1 in different slides, 1 both labelled and to be predicted)" in (
        finding.message
    )


def test_a_lesion_with_two_diagnoses_is_named_and_a_slide_is_not(tmp_path: Path) -> None:
    listed = listing("ham10000", build_ham10000(tmp_path / "data"))
    rows = listed.rows.copy()
    rows.loc[rows["label"].isin(["nv", "mel"]), "group"] = "HAM_1"
    mixed = dataclasses.replace(listed, rows=rows)
    assert found(mixed, tmp_path / "cache")["group-labels"].offenders == ("HAM_1",)
    slides = dataclasses.replace(mixed, group_kind="slide")
    assert found(slides, tmp_path / "cache")["group-labels"].level is Level.PASS


def test_images_that_are_their_own_groups_are_said_to_have_one_label_each(tmp_path: Path) -> None:
    finding = looked("folders", build_folders(tmp_path / "data"))["group-labels"]
    assert (finding.level, finding.message) == (
        Level.PASS,
        "Each image is a group of its own and has one label.",
    )


def test_only_images_that_can_be_read_count_as_not_of_one_colour(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data", n=10)
    whole = looked("folders", root)["constant-images"].message
    (root / "Benign" / "0.jpg").write_bytes(b"no image")
    broken = looked("folders", root)["constant-images"].message

    assert whole == "None of the 10 images is of one colour only."
    assert broken == "None of the 9 readable images is of one colour only."


def test_what_a_file_holds_decides_and_not_its_name(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data", n=10)
    (root / "Benign" / "0.jpg").rename(root / "Benign" / "0.bmp")
    finding = looked("folders", root)["unreadable-images"]
    assert finding.level is Level.PASS
    Image.new("RGB", (9, 9)).save(root / "Benign" / "0.bmp")
    finding = looked("folders", root)["unreadable-images"]
    assert finding.offenders == ("Benign/0.bmp (not a JPEG, PNG or TIFF)",)


def test_a_class_of_two_groups_cannot_be_divided(tmp_path: Path) -> None:
    root = build_ham10000(tmp_path / "data", n=14)
    finding = looked("ham10000", root)["class-counts"]
    assert finding.level is Level.WARN
    assert (finding.count, finding.offenders[0]) == (7, "akiec (2 groups)")


def given_split_of(listed: Listing, **changed: Any) -> Listing:
    return dataclasses.replace(listed, rows=listed.rows.assign(**changed))


def test_given_splits_that_share_a_slide_or_lack_images_are_named(tmp_path: Path) -> None:
    listed = listing("pcam", build_pcam(tmp_path / "data"))
    n = len(listed.rows)
    torn = given_split_of(listed, given_split=["train", "test"] * (n // 2))
    message = found(torn, tmp_path / "cache")["given-splits"].message
    assert message.startswith("8 slides are in more than one of the data set's own splits")
    partial = given_split_of(listed, given_split=["train"] * (n - 1) + [""])
    finding = found(partial, tmp_path / "cache")["given-splits"]
    assert (finding.level, finding.count) == (Level.WARN, 1)


def test_given_splits_are_counted(tmp_path: Path) -> None:
    root = build_folders(tmp_path / "data", splits=("train", "test"))
    finding = looked("folders", root)["given-splits"]
    assert finding.level is Level.PASS
    assert finding.message == "The data set brings its own split: train 20, test 20."


def test_placeholder_labels_are_called_so(tmp_path: Path) -> None:
    options = dataclasses.replace(SPIDER, placeholder_labels=True)
    finding = looked("spider_skin", build_spider(tmp_path / "data"), options)["label-source"]
    assert finding.level is Level.WARN
    assert "placeholders" in finding.message


@pytest.mark.parametrize(
    ("typo", "level"),
    [("nevus", Level.WARN), ("Nevuss", Level.WARN), ("Basal cell carcinoma", Level.PASS)],
)
def test_class_names_that_may_be_one_are_named_where_classes_come_from_the_data(
    tmp_path: Path, typo: str, level: Level
) -> None:
    root = build_spider(tmp_path / "data", n=60)
    table = pd.read_csv(root / "metadata.csv")
    table.loc[table.index[table["class"] == "Nevus"][0], "class"] = typo
    table.to_csv(root / "metadata.csv", index=False)
    finding = looked("spider_skin", root, SPIDER)["similar-classes"]
    assert finding.level is level


def test_a_subset_is_named_with_both_numbers(tmp_path: Path) -> None:
    finding = looked("pcam", build_pcam(tmp_path / "data"))["published-counts"]
    assert finding.message == (
        "The data set has 48 of the 220,025 published labelled images and 6 of the 57,458 "
        "published images to predict."
    )


def test_classes_of_another_number_than_published_are_named(tmp_path: Path) -> None:
    listed = listing("ham10000", build_ham10000(tmp_path / "data", n=14))
    counts = dict.fromkeys(listed.classes, 2) | {"nv": 1, "df": 3}
    known = dataclasses.replace(listed, expected=Expected(images=14, class_counts=counts))
    finding = found(known, tmp_path / "cache")["published-counts"]
    assert finding.offenders == ("df 2 instead of 3", "nv 2 instead of 1")


def test_what_the_source_decided_is_shown(tmp_path: Path) -> None:
    listed = listing("folders", build_folders(tmp_path / "data"))
    noted = dataclasses.replace(listed, notes=("3 ages are not numbers",))
    finding = found(noted, tmp_path / "cache")["source-notes"]
    assert (finding.level, finding.offenders) == (Level.WARN, ("3 ages are not numbers",))


FINDINGS = [
    Finding("one", Level.PASS, "All is well."),
    Finding("the-other", Level.FAIL, "7 images are bad.", ("a", "b", "c", "d", "e"), 7),
]


def test_findings_are_listed_in_columns_with_a_sum() -> None:
    assert render(FINDINGS).splitlines() == [
        "PASS  one        All is well.",
        "FAIL  the-other  7 images are bad.",
        "                 - a, b, c, d, e and 2 more",
        "2 checks: 1 PASS, 0 WARN, 1 FAIL",
    ]


def test_findings_become_json() -> None:
    values = json.loads(json.dumps(to_json(FINDINGS)))
    assert values["worst"] == "FAIL"
    assert values["counts"] == {"PASS": 1, "WARN": 0, "FAIL": 1}
    assert values["findings"][1] == {
        "check": "the-other",
        "level": "FAIL",
        "message": "7 images are bad.",
        "count": 7,
        "offenders": ["a", "b", "c", "d", "e"],
    }


def test_no_findings_are_a_pass() -> None:
    assert worst([]) is Level.PASS
