"""What a run left behind is read the same from its folder and from the store."""

import dataclasses
import subprocess
import sys

import pandas as pd
import pytest

import finished_runs
from histo_mlflow.errors import DataError, HistoMlflowError, TrackingError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.run_record import load_run

ID = "ab" * 16


@pytest.fixture
def folder(tmp_path):
    return finished_runs.write_run(
        tmp_path / "runs" / ID, ID, finished_runs.cases(), overrides={"lr": "0.002"}
    )


def test_a_folder_tells_all_without_a_store(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_folder = load_run(folder.path)
    by_id = load_run(ID, runs_dir=tmp_path / "runs")

    for found in (by_folder, by_id):
        assert (found.run_id, found.name, found.folder) == (ID, "demo ababab", folder)
        assert found.params["lr"] == "0.002"
        assert found.tags["histo.data.digest"] == "d1" * 32
        assert found.tags["histo.split.leaking"] == "true"
        assert found.provenance["packages"] == {"torch": "2.10.0", "timm": "1.0.20"}
        assert found.splits.counts()["images"]["train"] == 4
        pd.testing.assert_frame_equal(found.predictions, finished_runs.cases())
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_without_a_folder_here_is_fetched_from_the_store_and_says_the_same(
    folder, store_uri, tmp_path
):
    run_id = finished_runs.log_run(store_uri, folder)
    local = load_run(folder.path)
    found = load_run(run_id, tracking_uri=store_uri, runs_dir=tmp_path / "none")

    assert (found.run_id, found.folder, found.name) == (run_id, None, f"demo {run_id[:6]}")
    assert found.params == local.params
    shared = found.tags.keys() & local.tags.keys()
    assert {key: found.tags[key] for key in shared} == {key: local.tags[key] for key in shared}
    assert {"histo.data.digest", "histo.split.kind", "histo.git.commit"} <= shared
    assert found.provenance == local.provenance
    pd.testing.assert_frame_equal(found.predictions, local.predictions)
    pd.testing.assert_frame_equal(found.splits.table, local.splits.table)


def test_a_folder_that_is_not_finished_gives_way_to_the_store(folder, store_uri, tmp_path):
    run_id = finished_runs.log_run(store_uri, folder)
    stale = folder.path.rename(folder.path.with_name(run_id))
    facts = dataclasses.replace(folder.__class__(stale).facts(), run_id=run_id)
    folder.__class__(stale).write_facts(dataclasses.replace(facts, tracking_uri=store_uri))
    (stale / "outcome.json").unlink()

    assert load_run(run_id, runs_dir=tmp_path / "runs").folder is None
    with pytest.raises(DataError, match=r"The training in .* has not ended, so there are no pred"):
        load_run(stale)


def test_a_table_is_read_by_itself(tmp_path):
    path = tmp_path / "mine.parquet"
    predictions.save(finished_runs.cases(), path)
    found = load_run(str(path))

    assert (found.name, found.run_id, found.params, found.splits) == ("mine", None, {}, None)


def test_a_run_that_the_store_does_not_have_is_told_with_the_store(store_uri):
    with pytest.raises(DataError, match=f"got '{ID}': the store {store_uri} has no such run"):
        load_run(ID, tracking_uri=store_uri)


def test_a_run_of_another_store_is_told_with_the_store(folder, store_uri, fresh_database):
    run_id = finished_runs.log_run(store_uri, folder)
    with pytest.raises(DataError, match=f"the store sqlite:///{fresh_database} has no such run"):
        load_run(run_id, tracking_uri=f"sqlite:///{fresh_database}")


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    uri = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(TrackingError, match=f"there is no tracking store {uri}"):
        load_run(ID, tracking_uri=uri)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_predictions_is_told(store_uri):
    from histo_mlflow.tracking.start import start_run
    from histo_mlflow.tracking.store import connect

    run = start_run(connect(store_uri), "demo", None, {}, {}, system_metrics=False)
    with run:
        run.end("interrupted")
    told = "to have the artifact predictions.parquet, but there is none: it ended as interrupted"
    with pytest.raises(DataError, match=told):
        load_run(run.run_id, tracking_uri=store_uri)


def test_a_deleted_run_is_told(folder, store_uri):
    from mlflow import MlflowClient

    run_id = finished_runs.log_run(store_uri, folder)
    MlflowClient(store_uri).delete_run(run_id)
    with pytest.raises(DataError, match=f"Run {run_id} was deleted"):
        load_run(run_id, tracking_uri=store_uri)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: (f.path / "run.json").unlink(), "Expected the folder of a run"),
        (lambda f: (f.path / "run.json").write_text("{"), "run.json should be JSON"),
        (lambda f: (f.results / "predictions.parquet").unlink(), "there is no such file"),
        (lambda f: (f.results / "predictions.parquet").write_bytes(b"x"), "cannot be read"),
        (lambda f: f.write_outcome({**f.outcome(), "ending": "failed"}), "ended as failed"),
        (lambda f: (f.begin / "weights.json").write_text("[1]"), "Expected a mapping in"),
        (lambda f: (f.begin / "weights.json").write_text("{"), "Expected JSON in"),
        (lambda f: (f.begin / "data/splits.json").unlink(), "Saved splits are two files"),
        (lambda f: f.recipe.unlink(), "Expected the recipe of run"),
    ],
    ids=[
        "no-run",
        "no-json",
        "no-table",
        "no-parquet",
        "failed",
        "no-mapping",
        "bad-json",
        "half-splits",
        "recipe",
    ],
)
def test_a_folder_with_something_amiss_is_told(folder, spoil, told):
    spoil(folder)
    with pytest.raises(HistoMlflowError, match=told):
        load_run(folder.path)


@pytest.mark.parametrize("reference", ["", " ", "runs/none", "none.parquet"])
def test_what_is_no_reference_is_told_without_a_store(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="Expected"):
        load_run(reference)
    assert list(tmp_path.iterdir()) == []


def test_reading_a_folder_brings_neither_torch_nor_mlflow(folder):
    code = (
        "import sys; from histo_mlflow.jobs.run_record import load_run; load_run(sys.argv[1]); "
        "print(sorted({'torch', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder.path], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
