"""`histo-mlflow runs compare`: numbers on stdout, talk on stderr, mistakes in one sentence."""

import json

import pytest
from click.testing import CliRunner

import finished_runs
from histo_mlflow.cli import cli
from histo_mlflow.errors import HistoMlflowError
from histo_mlflow.evaluation import predictions

A, B = "a" * 32, "b" * 32


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, run_id in enumerate((A, B)):
        finished_runs.write_run(tmp_path / "runs" / run_id, run_id, finished_runs.cases(seed=seed))
    return tmp_path


def compare(*arguments):
    return CliRunner().invoke(cli, ["runs", "compare", "--replicates", "100", *map(str, arguments)])


def test_stdout_is_the_comparison_and_stderr_the_talk(folder):
    done = compare(A, B)

    assert done.exit_code == 0, done.exception
    assert "baseline demo aaaaaa" in done.stdout
    assert done.stderr.splitlines() == [
        "read     demo aaaaaa from its folder: 240 predictions",
        "read     demo bbbbbb from its folder: 240 predictions",
    ]
    assert compare(A, B, "--quiet").stderr == ""


def test_json_and_files_say_the_same(folder):
    done = compare(A, folder / "runs" / B, "--json", "--quiet", "--out", "out")

    assert json.loads(done.stdout) == json.loads((folder / "out/comparison.json").read_text())
    assert {path.name for path in (folder / "out").iterdir()} == {
        "comparison.json", "comparison.csv", "comparison.png",
    }  # fmt: skip


def test_an_unknown_run_is_told_with_the_store(folder, store_uri):
    done = compare(A, "c" * 32, "--tracking-uri", store_uri)

    assert done.exit_code == 1
    assert isinstance(done.exception, HistoMlflowError)
    assert f"the store {store_uri} has no such run" in str(done.exception)
    assert done.stdout == ""


def test_the_split_can_be_validation_and_nothing_else(folder):
    assert "val: 120 images" in compare(A, B, "--split", "val").stdout
    assert compare(A, B, "--split", "train").exit_code != 0


def test_a_folder_that_cannot_be_written_to_is_told(folder):
    (folder / "out").write_text("a file")
    done = compare(A, B, "--out", folder / "out" / "deep")
    assert done.exit_code != 0
    assert isinstance(done.exception, HistoMlflowError | SystemExit), done.exception


def test_tables_by_themselves_need_no_store(folder):
    for seed in (1, 2):
        predictions.save(finished_runs.cases(seed=seed), folder / f"{seed}.parquet")
    assert compare("1.parquet", "2.parquet").exit_code == 0
    assert not (folder / "mlflow.db").exists()
