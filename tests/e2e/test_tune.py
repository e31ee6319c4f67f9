"""`mlflow run . -e tune` as a user types it, and what its study can be taken on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from histo_mlflow import recipe as recipes
from histo_mlflow.tuning.shared import attributes
from tuned_studies import (
    assert_whole,
    read,
    still,
    trials_in,
    wait_until,
    workers_of,
    write_study,
)

pytestmark = [pytest.mark.slow, pytest.mark.alone]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def environment(store_uri):
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": store_uri,
    }


@pytest.fixture
def mlflow_run(store_uri, tmp_path):
    """Start `mlflow run` in a session of its own; with a failed test it ends, and all below it."""
    started = []

    def begin(study):
        started.append(begun(store_uri, tmp_path, study))
        return started[-1]

    yield begin
    for process, _ in started:
        if process.poll() is None:
            process.terminate()  # the rest ends by itself, as the last test says
            process.wait(60)


def begun(store_uri, folder, study):
    log = folder / f"mlflow{len(list(folder.glob('mlflow*.log')))}.log"
    command = [BIN / "mlflow", "run", ROOT, "--env-manager", "local", "-e", "tune"]
    with log.open("wb") as opened:
        process = subprocess.Popen(
            [
                *(*command, "-P", f"study={study}", "-P", "workers=2"),
                *("-P", f"runs_dir={folder}/runs", "-P", "doctor=off"),
                *("-P", f"storage=sqlite:///{folder}/optuna.db"),
            ],
            cwd=folder,
            env=environment(store_uri),
            stdout=opened,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, log


def runs_in(client):
    experiments = [one.experiment_id for one in client.search_experiments()]
    return client.search_runs(experiments, max_results=1_000)


def artifacts(client, run_id):
    files, folders = set(), [None]
    while folders:
        for entry in client.list_artifacts(run_id, folders.pop()):
            (folders.append if entry.is_dir else files.add)(entry.path)
    return files


@pytest.mark.timeout(900)
def test_a_study_of_mlflow_run_is_whole_goes_on_and_ends_in_a_model_that_is_promoted(
    command, mlflow_run, store_uri, tmp_path
):
    study = write_study(tmp_path, trials=4, epochs=2)
    process, log = mlflow_run(study)
    assert process.wait(300) == 0, log.read_text()

    told = read(tmp_path, store_uri)
    assert_whole(told, 4)
    client, parent = told.client, told.parent
    assert parent.data.tags["mlflow.project.entryPoint"] == "tune"
    assert parent.data.params["metric"] == "val/auc"
    assert len(runs_in(client)) == 1 + 4
    for trial in told.trials:
        child = told.child(trial.number)
        assert float(child.data.params["lr"]) == pytest.approx(trial.params["lr"])
        assert child.data.params["policy"] == trial.params["policy"]
        assert {"train/loss", "val/loss", "val/auc", "lr"} <= told.points[child.info.run_id].keys()
        assert not [name for name in child.data.metrics if name.startswith("test")]
        assert not (child.outputs and child.outputs.model_outputs)
    files = artifacts(client, parent.info.run_id)
    assert {f"study/{name}" for name in ("trials.parquet", "best_recipe.yaml", "study.json")} <= (
        files
    )
    assert "study/figures/history.png" in files
    best = max(told.trials, key=lambda trial: trial.value or 0.0)
    assert parent.data.tags["histo.study.best_run"] == best.user_attrs[attributes.RUN_ID]
    recipe = recipes.load(str(tmp_path / "runs" / parent.info.run_id / "study/best_recipe.yaml"))
    fields = recipe.flatten()
    assert {axis: fields[axis] for axis in best.params} == best.params

    process, log = mlflow_run(study)
    assert process.wait(300) == 0, log.read_text()
    again = read(tmp_path, store_uri)
    assert_whole(again, 4)
    assert [t.datetime_complete for t in again.trials] == [t.datetime_complete for t in told.trials]
    (own,) = [
        run
        for run in runs_in(client)
        if run.data.tags.get("histo.study.parent") == parent.info.run_id
    ]
    assert own.info.status == "FINISHED"
    assert parent.info.run_id in own.data.tags["mlflow.note.content"]
    assert again.parent.data.params == parent.data.params

    tune = ("tune", "--study", study, "--workers", "2", "--doctor", "off", "--quiet")
    tune += ("--tracking-uri", store_uri)
    (tmp_path / "other").mkdir()
    other = write_study(tmp_path / "other", trials=4, epochs=2, high="1.0e-2")
    refused = command(*tune[:2], other, *tune[3:])
    assert refused.code == 1
    assert "space.lr: high was 0.03, 0.01 is given" in refused.sentence

    confirmed = command(*tune, "--confirm", "1", "--replicates", "2", "--json")
    assert confirmed.code == 0, confirmed.said
    result = json.loads(confirmed.said[confirmed.said.index("{") :])["confirmation"]
    assert_confirmed(client, read(tmp_path, store_uri), result)
    run_id = result["winner_run"]["run_id"]
    promoted = command(
        *("promote", run_id, "--name", "of-the-study", "--allow-synthetic", "--force"),
        *("--tracking-uri", store_uri),
    )
    assert promoted.code == 0, promoted.said
    (version,) = client.search_model_versions("name='of-the-study'")
    assert version.run_id == run_id


def assert_confirmed(client, told, result):
    """Two replicates of the best and of the default on fresh data, and an ordinary winner."""
    runs = runs_in(client)
    trained = [run for run in runs if run.data.tags.get("histo.study.kind") == "confirm"]
    parent = told.parent.info.run_id
    assert len(trained) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in trained} == {parent}
    assert {run.info.status for run in trained} == {"FINISHED"}
    divisions = {run.data.tags["histo.division"] for run in trained}
    assert len(divisions) == 2
    assert len({run.data.params["seed"] for run in trained}) == 2
    assert not [run for run in trained for name in run.data.metrics if name.startswith("test")]
    (winner,) = [run for run in runs if run.data.tags.get("histo.study.kind") == "winner"]
    assert winner.info.run_id == result["winner_run"]["run_id"]
    assert winner.data.tags["mlflow.parentRunId"] == parent
    assert 0 <= winner.data.metrics["test/auc"] <= 1
    assert told.parent.data.tags["histo.study.winner_run"] == winner.info.run_id
    files = artifacts(client, parent)
    names = ("confirmation.json", "confirmation.txt", "confirmation.png", "winner_recipe.yaml")
    assert {f"confirmation/{name}" for name in names} <= files
    text = client.download_artifacts(parent, "confirmation/winner_recipe.yaml")
    assert yaml.safe_load(Path(text).read_text())["name"] == "small-winner"


@pytest.mark.timeout(600)
def test_a_sigterm_of_mlflow_run_ends_all_its_processes_and_kills_the_run(
    mlflow_run, store_uri, tmp_path
):
    study = write_study(tmp_path, trials=4, epochs=40)
    process, log = mlflow_run(study)
    wait_until(
        lambda: any(trial.intermediate_values for trial in trials_in(tmp_path)),
        "an epoch",
        240.0,
        pid=process.pid,
        said=log.read_text,
    )
    family = psutil.Process(process.pid).children(recursive=True)
    workers = [worker for one in family for worker in workers_of(one.pid)]
    assert len(workers) == 2
    process.send_signal(signal.SIGTERM)
    moment = time.monotonic()
    wait_until(lambda: not still(workers), "the workers end", 60.0, said=log.read_text)
    trained = time.monotonic() - moment
    wait_until(lambda: "\nhisto-mlflow: " in log.read_text(), "the last word", 60.0)
    told = time.monotonic() - moment
    process.wait(60)
    wait_until(lambda: not still(family), "they end", 60.0, said=log.read_text)
    gone = time.monotonic() - moment

    print(
        f"after the SIGTERM no training {trained:.1f} s, all told {told:.1f} s, gone {gone:.1f} s"
    )
    client = MlflowClient(store_uri)
    runs = runs_in(client)
    assert trained < 10, log.read_text()
    assert told < 15, log.read_text()
    # What is left is Python taking torch and MLflow apart: 3 s of computing.
    assert gone - told < 15, log.read_text()
    assert {run.info.status for run in runs} == {"KILLED"}
    (parent,) = [run for run in runs if run.data.tags.get("histo.study.kind") == "study"]
    assert "is gone" in parent.data.tags["histo.cause"]
    assert not [trial for trial in trials_in(tmp_path) if trial.state.name == "RUNNING"]
