"""A cross-validation that is really killed goes on where it was, and trains no fold twice."""

import json
import shutil
import signal
import sqlite3

import pandas as pd
import pytest
from mlflow import MlflowClient

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_pictures")]

SMALL = (
    *("crossval", "--folds", "2", "--model", "test_resnet", "--demo_images", "96"),
    *("--image_px", "32", "--batch_size", "16", "--epochs", "2", "--dropout", "0.2"),
    *("--precision", "fp32", "--memory_format", "channels_last", "--threads", "1"),
    *("--doctor", "off", "--no-pictures", "--run_dir", "cv"),
)
"""Two folds of two epochs of two steps."""
KILL, TERM = [(signal.SIGKILL, 0.0)], [(signal.SIGTERM, 0.0)]


def outcome_of(folder):
    """Predictions, the ensemble's weights and the metrics; what must not depend on a kill."""
    return (
        pd.read_parquet(folder / "cv" / "results" / "oof.parquet"),
        [path.read_bytes() for path in sorted((folder / "cv" / "model").glob("*.safetensors"))],
        pd.read_csv(folder / "cv" / "results" / "metrics.csv"),
    )


def runs_of(folder):
    """Every run of the store with its parent and metric points, none of them there twice."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = {run.info.run_id: run for run in client.search_runs(experiments)}
    with sqlite3.connect(folder / "mlflow.db") as opened:
        points = opened.execute("select run_uuid, key, step from metrics").fetchall()
    assert len(set(points)) == len(points), "points are there twice"
    models = client.search_logged_models(experiments)
    assert all(str(model.status) == "READY" for model in models)
    return runs, [model.source_run_id for model in models]


@pytest.fixture(scope="module")
def undisturbed(zygote, fresh_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(fresh_database, folder / "mlflow.db")
    done = zygote.start(folder, *SMALL).wait()
    assert done.code == 0, done.said
    return outcome_of(folder)


@pytest.mark.parametrize(
    ("moment", "signals", "code"),
    [("noting:3", KILL, -9), ("step:7", KILL, -9), ("step:7", TERM, 143)],
    ids=["first-run-is-made", "in-the-second-fold", "ended-in-the-second-fold"],
)
def test_the_same_command_goes_on_and_ends_as_if_nothing_had_been(
    moment, signals, code, command, store_uri, tmp_path, undisturbed
):
    ended = command(*SMALL, moment=moment, signals=signals)
    assert ended.code == code, ended.said
    statuses = {run.info.status for run in runs_of_any(tmp_path)}
    noted = json.loads((tmp_path / "cv" / "crossval.json").read_text())["runs"]
    if code == 143:
        assert "go on: histo-mlflow crossval --run-dir cv" in ended.said
        assert statuses == {"FINISHED", "KILLED"}
    else:
        assert "RUNNING" in statuses
    whole = {
        path: path.stat().st_mtime_ns
        for run_id in noted.values()
        if (tmp_path / "runs" / run_id / "outcome.json").is_file()
        for path in (tmp_path / "runs" / run_id).rglob("*")
        if path.is_file() and path.name != "lock"
    }

    again = command(*SMALL)

    assert again.code == 0, again.said
    runs, with_model = runs_of(tmp_path)
    (parent,) = (run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags)
    children = json.loads((tmp_path / "cv" / "crossval.json").read_text())["runs"]
    assert set(runs) == {parent.info.run_id, *children.values()}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert sorted(with_model) == sorted(runs)
    assert noted.items() <= children.items()
    if code == -9:  # else the second fold's folder says that it was interrupted
        assert whole == {path: path.stat().st_mtime_ns for path in whole}
    assert again.said.count(" was finished before") == (moment == "step:7")
    found = outcome_of(tmp_path)
    pd.testing.assert_frame_equal(found[0], undisturbed[0], check_exact=True)
    assert found[1] == undisturbed[1]
    pd.testing.assert_frame_equal(found[2], undisturbed[2], check_exact=True)


def runs_of_any(folder):
    """The runs of a store in which a killed process may have left anything."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.search_runs([one.experiment_id for one in client.search_experiments()])
