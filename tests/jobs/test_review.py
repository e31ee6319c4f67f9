"""The review queue as a command: a table, a picture, and nothing over somebody's files."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from finished_runs import cases, log_run, write_run
from histo_mlflow.cli import cli
from histo_mlflow.errors import DataError, DiskError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.review import review
from histo_mlflow.jobs.talk import Talk

QUIET = Talk(quiet=True)


def flipped(share: float = 0.05):
    """Good predictions, and some labels that were changed afterwards."""
    table = cases(600, skill=4.0)
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(table), int(share * len(table)), replace=False)
    names = predictions.classes_of(table)
    labels = table["label"].to_numpy(dtype=object).copy()
    for row in wrong:
        labels[row] = next(name for name in rng.permutation(names) if name != labels[row])
    table["label"] = pd.Series(labels, dtype="str")
    return table, set(table["id"].iloc[wrong])


def test_the_queue_begins_with_the_labels_that_were_changed(tmp_path) -> None:
    table, wrong = flipped()
    predictions.save(table, tmp_path / "oof.parquet")
    found = review(str(tmp_path / "oof.parquet"), out=tmp_path / "queue", talk=QUIET)
    written = pd.read_csv(tmp_path / "queue/queue.csv")
    assert written["id"].tolist() == found.queue["id"].tolist()
    first = set(written["id"].head(len(wrong)))
    assert len(first & wrong) / len(wrong) > 0.8
    assert (tmp_path / "queue/estimated_noise.csv").is_file()


def test_the_queue_of_a_run_is_logged_to_it(store_uri, tmp_path) -> None:
    folder = write_run(tmp_path / "run", "r", flipped()[0])
    run_id = log_run(store_uri, folder)
    done = CliRunner().invoke(
        cli,
        ["review", run_id, "--tracking-uri", store_uri, "--runs-dir", str(tmp_path / "no"),
         "--out", str(tmp_path / "queue"), "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["rank"] == 1
    there = {entry.path for entry in MlflowClient(store_uri).list_artifacts(run_id, "review")}
    assert "review/queue.csv" in there


def test_rows_that_were_trained_on_are_refused(tmp_path) -> None:
    table, _ = flipped()
    table["split"] = "train"
    predictions.save(table, tmp_path / "p.parquet")
    with pytest.raises(DataError, match="rows of the training split"):
        review(str(tmp_path / "p.parquet"), out=tmp_path / "queue", talk=QUIET)
    assert not (tmp_path / "queue").exists()


def test_the_queue_never_goes_over_something_else(tmp_path) -> None:
    predictions.save(flipped()[0], tmp_path / "p.parquet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    (tmp_path / "mine/queue.csv").write_text("my own queue")
    with pytest.raises(DiskError, match="holds something else"):
        review(str(tmp_path / "p.parquet"), out=tmp_path / "mine", talk=QUIET)
    assert (tmp_path / "mine/thesis.txt").read_text() == "mine"
