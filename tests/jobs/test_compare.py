"""Runs against each other: what differs in how they were made comes before the numbers."""

import json

import pandas as pd
import pytest

import finished_runs
from histo_mlflow.errors import DataError, HistoMlflowError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.compare import paired
from histo_mlflow.jobs.compare import compare_runs
from histo_mlflow.jobs.compare_text import render
from histo_mlflow.jobs.talk import Talk

A, B = "a" * 32, "b" * 32
NAMES = ("demo aaaaaa", "demo bbbbbb")
cases = finished_runs.cases


@pytest.fixture
def runs(tmp_path):
    """Write a run into the folder of runs."""

    def write(run_id, table=None, **facts):
        seed = {A: 1, B: 2}[run_id]
        table = cases(seed=seed) if table is None else table
        return finished_runs.write_run(tmp_path / "runs" / run_id, run_id, table, **facts)

    return write


@pytest.fixture
def compare(tmp_path):
    def run(*references, **more):
        talk = Talk(quiet=True)
        return compare_runs(
            [str(one) for one in references], runs_dir=tmp_path / "runs", replicates=100,
            talk=talk, **more,
        )  # fmt: skip

    return run


def test_runs_that_are_made_alike_differ_in_their_numbers_only(runs, compare):
    runs(A), runs(B)
    found = compare(A, B)

    assert found.names == NAMES
    assert (found.recipe, found.code, found.data, found.machine) == ({}, {}, {}, {})
    assert found.group_kind == "lesion"
    tables = dict(zip(NAMES, (cases(seed=1), cases(seed=2)), strict=True))
    assert found.comparison.differences == paired(tables, replicates=100).differences


def test_differences_of_recipe_code_and_data_are_told_and_nothing_else(runs, compare):
    runs(A, overrides={"lr": "0.001"})
    runs(B, overrides={"lr": "1e-2", "batch_size": "16"}, digest="e2" * 32, dirty=True,
         commit="f" * 40, packages={"torch": "2.11.0", "timm": "1.0.20"})  # fmt: skip
    found = compare(A, B)

    assert found.recipe["lr"] == ("0.001", "0.01")
    assert set(found.recipe) == {"lr", "batch_size"}
    assert found.code == {
        "commit": (finished_runs.COMMIT, "f" * 40),
        "uncommitted changes": ("false", "true"),
        "torch": ("2.10.0", "2.11.0"),
    }
    assert found.data == {"digest": ("d1" * 32, "e2" * 32)}
    assert found.notes[0].startswith("the runs saw DIFFERENT DATA")
    assert any(note.startswith("demo bbbbbb ran with uncommitted changes") for note in found.notes)
    assert render(found).splitlines()[0].startswith("NOTE the runs saw DIFFERENT DATA")


def test_images_that_one_run_was_trained_on_are_left_out_and_counted(runs, compare):
    table = cases(seed=2)
    kept = table[~table["id"].isin(["i0200", "i0201", "i0202"])]
    runs(A)
    runs(B, kept, train=("i0200", "i0201", "i0202"))
    found = compare(A, B)

    assert found.comparison.rows == 117
    assert (
        "3 of the 120 test images of demo aaaaaa are left out, since they are not in the test "
        "split of all (demo bbbbbb had 3 of them in train)"
    ) in found.notes


def test_a_compared_image_whose_group_was_trained_on_is_counted(runs, compare):
    runs(A)
    folder = runs(B)
    path = folder.begin / "data/splits.csv"
    splits = pd.read_csv(path, dtype=str)
    splits.loc[splits["id"] == "t0", "group"] = "g0100"  # that of i0200 and i0201
    splits.to_csv(path, index=False)

    told = "2 of the 120 compared images belong to a group of which demo bbbbbb saw other images"
    assert any(note.startswith(told) for note in compare(A, B).notes)


def test_a_table_beside_a_run_says_that_nothing_is_known_of_its_training(runs, compare, tmp_path):
    runs(A)
    predictions.save(cases(seed=3), tmp_path / "mine.parquet")
    found = compare(A, tmp_path / "mine.parquet")

    assert found.names == ("demo aaaaaa", "mine")
    assert any(note.startswith("what mine was trained on is not known") for note in found.notes)
    assert (found.recipe, found.code) == ({}, {})


def test_two_tables_of_one_name_are_told_apart_by_their_paths(compare, tmp_path):
    paths = [tmp_path / name / "predictions.parquet" for name in ("one", "two")]
    for seed, path in enumerate(paths):
        predictions.save(cases(seed=seed), path)
    assert compare(*paths).names == tuple(map(str, paths))


def test_a_run_of_the_store_stands_beside_one_of_a_folder(runs, compare, store_uri):
    run_id = finished_runs.log_run(store_uri, runs(A))
    runs(B, overrides={"lr": "0.5"})
    found = compare(run_id, B, tracking_uri=store_uri)

    assert found.names == (f"demo {run_id[:6]}", "demo bbbbbb")
    assert set(found.recipe) == {"lr"}
    assert found.comparison.rows == 120


def test_validation_says_that_it_chose_the_epoch(runs, compare):
    runs(A), runs(B)
    assert any(
        note.startswith("val chose the best epoch") for note in compare(A, B, split="val").notes
    )


def test_everything_is_written_as_json_csv_and_picture(runs, compare, tmp_path):
    runs(A), runs(B, overrides={"lr": "0.5"})
    found = compare(A, B)
    found.write(tmp_path / "deep" / "out")

    told = json.loads((tmp_path / "deep/out/comparison.json").read_text())
    assert told["recipe"]["lr"] == {"demo aaaaaa": "0.001", "demo bbbbbb": "0.5"}
    assert [run["run_id"] for run in told["runs"]] == [A, B]
    rows = pd.read_csv(tmp_path / "deep/out/comparison.csv")
    assert len(rows) == len(found.comparison.differences)
    assert (tmp_path / "deep/out/comparison.png").stat().st_size > 10_000


def test_the_text_holds_baseline_value_difference_and_both_intervals(runs, compare):
    runs(A), runs(B)
    found = compare(A, B)
    _, auc = found.comparison.named("auc")
    (line,) = [line for line in render(found).splitlines() if line.startswith("AUC ")]

    assert f"{auc.value - auc.difference:.4f}  " in line
    assert f"{auc.value:.4f}" in line
    assert f"[{auc.difference_low:+.4f}, {auc.difference_high:+.4f}]" in line
    assert f"[{auc.naive_low:+.4f}, {auc.naive_high:+.4f}]" in line
    assert line.endswith(auc.verdict)
    assert "AUC, mel" not in render(found)
    assert "AUC, mel" in render(found, by_class=True)


def other_ids():
    return cases(seed=2).assign(id=lambda table: "x" + table["id"])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (other_ids, "images that all have in the split 'test', got none"),
        (lambda: cases(seed=2, classes=("bcc", "nv", "mel")), "Expected the classes of"),
        (lambda: cases(seed=2).assign(group="g"), "Expected the same group of an image"),
        (lambda: cases(seed=2).assign(split="val"), "Expected predictions of the split 'test'"),
    ],
    ids=["other-ids", "other-classes", "other-groups", "no-test"],
)
def test_tables_that_cannot_be_held_against_each_other_are_told(table, told, compare, tmp_path):
    for name, one in (("a", cases(seed=1)), ("b", table())):
        predictions.save(one, tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=told):
        compare(tmp_path / "a.parquet", tmp_path / "b.parquet")


def test_files_that_are_no_predictions_are_told(compare, tmp_path):
    good = tmp_path / "good.parquet"
    predictions.save(cases(), good)
    cases().drop(columns="group").to_parquet(tmp_path / "less.parquet")
    (tmp_path / "text.parquet").write_text("id,label\n")
    for name in ("less", "text", "none"):
        with pytest.raises(HistoMlflowError, match=r"Expected|needs the columns"):
            compare(good, tmp_path / f"{name}.parquet")


def test_one_class_and_one_group_are_undefined_and_not_an_error(compare, tmp_path):
    for seed, name in enumerate("ab"):
        one = cases(classes=("benign", "malignant"), seed=seed).query("label == 'benign'")
        predictions.save(one.assign(group="g"), tmp_path / f"{name}.parquet")
    text = render(compare(tmp_path / "a.parquet", tmp_path / "b.parquet"))
    (line,) = [line for line in text.splitlines() if line.startswith("AUC ")]
    assert line.split()[1:4] == ["undefined"] * 3
    assert "only 1 groups" in text or "only 1 group" in text
    assert "DeLong" in text


def test_one_run_alone_and_the_same_run_twice_are_told(runs, compare):
    folder = runs(A)
    with pytest.raises(DataError, match="two runs or more to compare, got 1"):
        compare(A)
    with pytest.raises(DataError, match="different runs to compare, got"):
        compare(A, folder.path)
