"""The audit stands before the split, and says what a split would leak."""

import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image, ImageEnhance

import layouts
from histo_mlflow.cli import cli
from histo_mlflow.jobs.leaks import _by_chance, render, report, write_report
from histo_mlflow.jobs.prepare import prepare
from histo_mlflow.jobs.ready import get_ready
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import load

QUIET = Talk(quiet=True)


def copied(root, source, name, factor=1.1):
    """A brighter copy of an image under another name."""
    target = root / name
    bright = ImageEnhance.Brightness(Image.open(root / source)).enhance(factor)
    bright.save(target, quality=92)
    return target


@pytest.fixture
def folders(tmp_path):
    """40 images of two classes, six of which have a brighter copy of the same class."""
    root = layouts.build_folders(tmp_path / "data", n=40)
    for i in range(6):
        copied(root, f"Benign/{i}.jpg", f"Benign/copy_{i}.jpg")
    return root


def recipe(root, **overrides):
    return load("benign_malignant", {"data_dir": str(root), "image_px": "64", **overrides})


def sides(prepared):
    table = prepared.splits.table.set_index("id")["split"]
    return [(table[f"Benign/{i}.jpg"], table[f"Benign/copy_{i}.jpg"]) for i in range(6)]


@pytest.mark.parametrize("seed", range(3))
def test_a_joined_split_keeps_look_alikes_on_one_side(folders, seed):
    prepared = prepare(recipe(folders, split_seed=str(seed)), talk=QUIET)

    assert all(a == b for a, b in sides(prepared))
    assert prepared.leaks.crossing(prepared.splits.table["split"].tolist()) == 0
    assert prepared.splits.table["group"].nunique() == 40
    assert prepared.manifest.table["group"].nunique() == 46


def test_folds_keep_look_alikes_on_one_side(folders):
    for fold in ("0", "1", "2"):
        prepared = prepare(recipe(folders, folds="3", fold=fold), talk=QUIET)
        assert all(a == b for a, b in sides(prepared))


def test_a_split_that_only_reports_warns_with_the_number_of_images(folders, capsys):
    prepared = prepare(recipe(folders, leak_groups="report"), talk=Talk())
    told = capsys.readouterr().err
    torn = sum(a != b for a, b in sides(prepared))

    assert torn > 0
    assert f"WARN     leak-groups: {2 * torn} of 46 images" in told
    assert "6 near-duplicate pairs across images, told and not joined; 46 image groups" in told


def test_what_was_joined_is_said_in_one_line(folders, capsys):
    prepare(recipe(folders), talk=Talk())
    told = capsys.readouterr().err

    line = "leaks    0 equal and 6 near-duplicate pairs across images joined; 40 leak groups"
    assert line in told.splitlines()
    assert "WARN     leak-groups" not in told


@pytest.mark.parametrize("leak_groups", ["join", "report"])
def test_a_run_may_be_promoted_only_if_no_image_crosses(folders, leak_groups):
    ready = get_ready(
        recipe(folders, leak_groups=leak_groups, weights="none", threads="1"), talk=QUIET
    )
    torn = sum(a != b for a, b in sides(ready.prepared))
    tags = ready.tags()

    assert (torn > 0) == (leak_groups == "report")
    assert tags["histo.leak_groups.crossing"] == 2 * torn
    assert tags["histo.promotable"] == ("false" if torn else "true")


def test_a_crowd_that_no_split_can_hold_is_told_and_keeps_a_run_from_promotion(tmp_path, capsys):
    root = layouts.build_folders(tmp_path / "data", n=40)
    for i in range(25):
        copied(root, "Benign/0.jpg", f"Benign/copy_{i}.jpg", factor=1 + 0.01 * i)
    told = report(recipe(root), talk=Talk())
    leaks = told.audited.leaks
    ready = get_ready(recipe(root, weights="none", threads="1"), talk=QUIET)

    assert leaks.held_back > 0
    assert f"one would have 26 images, so {leaks.held_back} near-duplicate pairs" in render(told)
    assert "WARN     leak-chains: the near-duplicates would chain 26 of 65 images" in (
        capsys.readouterr().err
    )
    assert ready.tags()["histo.promotable"] == "false"
    assert ready.tags()["histo.leak_groups.crossing"] == 26


@pytest.mark.parametrize(
    ("n", "said"), [(1, "1 pair of images that look the same has"), (2, "2 pa")]
)
def test_look_alikes_with_different_labels_are_told_with_the_first_pair(folders, capsys, n, said):
    for i in range(n):
        copied(folders, f"Benign/{10 + i}.jpg", f"Malignant/copy_{i}.jpg")
    prepare(recipe(folders), talk=Talk())
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "different labels" in line]

    assert line.startswith(f"WARN     leak-labels: {said}")
    assert " (Benign) and Malignant/copy_" in line
    assert line.endswith(".jpg (Malignant); `histo-mlflow data leaks` shows all")


def test_a_given_split_that_leaks_warns_and_is_kept(tmp_path, capsys):
    root = layouts.build_folders(tmp_path / "data", n=48, splits=("train", "val", "test"))
    shutil.copy(root / "train/Benign/0.jpg", root / "test/Benign/again.jpg")
    prepared = prepare(recipe(root, split="given"), talk=Talk())

    assert "WARN     leak-groups: 2 of 49 images" in capsys.readouterr().err
    split = prepared.splits.table.set_index("id")["split"]
    assert split["train/Benign/0.jpg"] == "train"
    assert split["test/Benign/again.jpg"] == "test"


def test_a_row_wise_split_is_told_what_it_leaks(tmp_path, capsys):
    root = layouts.build_ham10000(tmp_path / "data", n=112)
    lesions = pd.read_csv(root / "HAM10000_metadata.csv").set_index("image_id")["lesion_id"]
    overrides = {"data_dir": str(root), "split": "row", "image_px": "32"}
    prepared = prepare(load("ham10000", overrides), talk=Talk())
    table = prepared.splits.table.assign(lesion=lesions[prepared.splits.table["id"]].to_numpy())
    torn = int((table.groupby("lesion")["split"].transform("nunique") > 1).sum())

    assert torn > 0
    assert f"WARN     leak-groups: {torn} of 112 images" in capsys.readouterr().err


def test_the_report_is_a_table_a_summary_and_a_picture(folders, tmp_path):
    prepared = prepare(recipe(folders), talk=QUIET)
    write_report(prepared, tmp_path / "begin/data", tmp_path / "begin/figures")
    facts = json.loads((tmp_path / "begin/data/leaks.json").read_text())
    table = pd.read_csv(tmp_path / "begin/data/leaks.csv")

    assert facts["near_pairs_across_groups"] == len(table) == 6
    assert (facts["leak_groups"], facts["images_crossing"]) == (40, 0)
    assert set(table["kind"]) == {"near"}
    assert Image.open(tmp_path / "begin/figures/leak_pairs.png").size[0] > 1000


def test_without_pairs_there_is_no_picture(tmp_path):
    root = layouts.build_folders(tmp_path / "data")
    write_report(prepare(recipe(root), talk=QUIET), tmp_path / "report", tmp_path / "report")

    assert {path.name for path in (tmp_path / "report").iterdir()} == {"leaks.json", "leaks.csv"}


def test_the_ways_to_split_are_compared(folders):
    told = report(recipe(folders), talk=QUIET)

    assert told.crossing["group, leak groups joined"] == 0
    assert told.crossing["group"] == told.crossing["row"] > 0
    assert told.how == "group, leak groups joined"


def test_a_split_that_cannot_be_drawn_is_a_sentence_in_the_report(tmp_path):
    root = layouts.build_folders(tmp_path / "data", n=4)
    told = report(recipe(root), talk=QUIET)

    assert str(told.crossing["row"]).startswith("cannot be drawn: ")


def test_the_command_prints_label_conflicts_and_writes_the_folder(folders, tmp_path):
    copied(folders, "Benign/9.jpg", "Malignant/other.jpg")
    arguments = ["data", "leaks", "--dataset", "benign_malignant", "--data-dir", str(folders)]
    arguments += ["--image-px", "64", "--quiet", "--out", str(tmp_path / "out")]
    plain = CliRunner().invoke(cli, arguments)
    as_json = CliRunner().invoke(cli, [*arguments, "--json"])

    assert plain.exit_code == as_json.exit_code == 0, plain.output
    assert "1 pair with different labels" in plain.stdout
    assert "CONFLICT  Benign/9.jpg is Benign, Malignant/other.jpg is Malignant" in plain.stdout
    facts = json.loads(as_json.stdout)
    assert facts["conflicts"] == [["Benign/9.jpg", "Benign", "Malignant/other.jpg", "Malignant"]]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"leaks.json", "leaks.csv", "leak_pairs.png"}


def test_the_threshold_is_told_with_what_chance_gives_where_that_was_measured():
    assert _by_chance({"decoys": 0, "closest_decoy": 1.0}) == ""
    assert _by_chance({"decoys": 102, "closest_decoy": 0.801}) == (
        "; by chance (102 pairs turned wrongly) 0.801 or more"
    )
