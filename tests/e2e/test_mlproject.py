"""`mlflow run .` as a user types it, with real processes and a real SQLite store."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DYING = 15
"""Seconds that a process may take to be gone once it has said its last word and all is saved."""
TINY = ["-P", "epochs=2", "-P", "image_px=32", "-P", "demo_images=200", "-P", "batch_size=16"]


@pytest.fixture
def store(store_uri):
    return store_uri


def environment(store):
    """What a shell with the environment activated has."""
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": store,
    }


def mlflow_run(store, tmp_path, *arguments, manager="local", timeout=240):
    return subprocess.run(
        [
            *(BIN / "mlflow", "run", str(ROOT), "--env-manager", manager, *arguments),
            *(("-P", f"runs_dir={tmp_path}/runs") if "check" not in arguments else ()),
        ],
        cwd=tmp_path,
        env=environment(store),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def only_run(store):
    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    assert len(runs) == 1
    return client, runs[0]


def test_the_main_job_leaves_a_whole_run(store, tmp_path):
    """Params, per-epoch curves, device facts, pictures, predictions and a model."""
    done = mlflow_run(store, tmp_path, *TINY)
    assert done.returncode == 0, done.stderr

    client, run = only_run(store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["histo.ending"] == "finished"
    assert run.data.params["epochs"] == "2"
    assert run.data.params["lr"] == "0.001"
    assert run.data.params["dataset"] == "demo"
    for name in ("train/loss", "val/loss", "train/auc", "val/auc", "val/accuracy", "lr"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, name)] == [1, 2], name
    assert 0 <= run.data.metrics["test/auc"] <= 1
    assert run.data.tags["histo.data.label_source"] == "synthetic"
    assert run.data.tags["histo.promotable"] == "false"
    assert {"device.device", "device.torch", "device.precision"} <= set(run.data.tags)
    assert run.inputs.dataset_inputs[0].dataset.name == "demo"
    top = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert {"recipe.yaml", "history.json", "predictions.parquet", "data", "figures"} <= top
    figures = {entry.path for entry in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {
        f"figures/{name}.png" for name in ("samples", "augmented", "learning_curves")
    }
    judged = {entry.path for entry in client.list_artifacts(run.info.run_id, "evaluation/figures")}
    assert {f"evaluation/figures/{name}.png" for name in ("roc", "confusion")} <= judged
    assert run.data.metrics["test_low/auc"] <= run.data.metrics["test/auc"]
    assert run.outputs.model_outputs, "no model was logged"


def test_a_wrong_value_fails_the_run_that_mlflow_made_and_makes_no_other(store, tmp_path):
    done = mlflow_run(store, tmp_path, "-P", "lr=fast")

    assert done.returncode == 1
    assert "lr should be a valid number, got 'fast'" in done.stderr
    assert "Traceback" not in done.stderr
    _, run = only_run(store)
    assert run.info.status == "FAILED"


def test_the_check_entry_point_answers(store, tmp_path):
    good = mlflow_run(store, tmp_path, "-e", "check")
    bad = mlflow_run(store, tmp_path, "-e", "check", "-P", "dataset=ham10000", "-P", "data_dir=no")

    assert good.returncode == 0, good.stderr
    assert "PASS" in good.stdout
    assert bad.returncode == 1
    assert "HAM10000_metadata.csv" in bad.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_ends_the_run_as_killed(number, code, store, tmp_path):
    """Within seconds, with the exit code a shell expects; never FINISHED."""
    command = [BIN / "histo-mlflow", "train", "--demo_images", "200", "--epochs", "500"]
    process = subprocess.Popen(
        [*command, "--image_px", "32", "--runs_dir", str(tmp_path / "runs")],
        cwd=tmp_path,
        env=environment(store),
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    started = time.monotonic()
    process.send_signal(number)
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("histo-mlflow: "):
            break
    told = time.monotonic() - started
    said += process.stderr.read()
    process.wait(30)
    gone = time.monotonic() - started

    print(f"{number.name}: {told:.2f} s, gone after {gone:.2f} s")
    assert process.returncode == code, said
    assert told < 5
    assert gone - told < DYING
    _, run = only_run(store)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("KILLED", "interrupted")


@pytest.mark.slow
def test_a_training_that_fails_is_failed(store, tmp_path):
    """A rate that explodes: the run says FAILED, why, and with which images.

    Which number breaks first depends on the precision of the machine.
    """
    done = subprocess.run(
        [
            *(BIN / "histo-mlflow", "train", "--demo_images", "200", "--image_px", "32"),
            *("--lr", "1e30", "--optimiser", "sgd", "--schedule", "constant"),
            *("--runs_dir", str(tmp_path / "runs")),
        ],
        cwd=tmp_path,
        env=environment(store),
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 1
    what = r"(the loss|the gradient|the norm of the weights) became (nan|inf)"
    assert re.search(
        rf"{what} in epoch 1, step \d+, (with|because of) the images \S+", done.stderr
    ), done.stderr
    _, run = only_run(store)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("FAILED", "failed")
    assert "lower lr" in run.data.tags["histo.cause"]


def test_the_result_as_json_is_all_of_stdout(store, tmp_path):
    done = subprocess.run(
        [
            *(BIN / "histo-mlflow", "train", "--demo_images", "200", "--image_px", "32"),
            *("--epochs", "1", "--json", "--runs_dir", str(tmp_path / "runs")),
        ],
        cwd=tmp_path,
        env=environment(store),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)

    _, run = only_run(store)
    assert result["run_id"] == run.info.run_id
    assert result["test"]["auc"] == pytest.approx(run.data.metrics["test/auc"])
    assert (tmp_path / "runs" / run.info.run_id / "model" / "model.json").is_file()


LONG = [
    *("-P", "epochs=40", "-P", "image_px=32", "-P", "demo_images=96", "-P", "batch_size=16"),
    *("-P", "model=test_resnet", "-P", "precision=fp32", "-P", "threads=1"),
]


class MlflowRun:
    """`mlflow run .` in a session of its own, as in a terminal of its own."""

    def __init__(self, store, tmp_path, *arguments):
        self.log = tmp_path / f"mlflow{len(list(tmp_path.glob('mlflow*.log')))}.log"
        command = [BIN / "mlflow", "run", ROOT, "--env-manager", "local", *LONG, *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-P", f"runs_dir={tmp_path}/runs"],
                cwd=tmp_path,
                env=environment(store),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self):
        return self.log.read_text()

    def training(self):
        """The process that trains, once it has done an epoch."""
        deadline = time.monotonic() + 120
        while "\nepoch " not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        family = psutil.Process(self.process.pid).children(recursive=True)
        (child,) = [p for p in family if any("histo-mlflow" in word for word in words_of(p))]
        return child

    def end(self, act):
        """End the training, or `mlflow run`, by `act`.

        Returns:
            Seconds to the last word of the training, and from there until its process was gone.
        """
        child = self.training()
        started = time.monotonic()
        act(self.process.pid)
        while "\nhisto-mlflow: " not in self.said() and child.is_running():
            assert time.monotonic() - started < 60, self.said()
            time.sleep(0.02)
        told = time.monotonic()
        psutil.wait_procs([child], timeout=30)
        dying = time.monotonic() - told
        assert not child.is_running(), "the training goes on alone"
        self.process.wait(30)
        return told - started, dying


def steps(client, run_id):
    return [point.step for point in client.get_metric_history(run_id, "val/loss")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_however_mlflow_run_ends_the_training_saves_and_run_id_goes_on_with_it(store, tmp_path):
    """Ctrl-C in the terminal, SIGKILL and SIGTERM of `mlflow run` alone; one run in the end."""
    ends = {
        "SIGINT to all": lambda pid: os.killpg(pid, signal.SIGINT),
        "SIGKILL to mlflow run": lambda pid: os.kill(pid, signal.SIGKILL),
        "SIGTERM to mlflow run": lambda pid: os.kill(pid, signal.SIGTERM),
    }
    which, done = [], 0
    for what, act in ends.items():
        running = MlflowRun(store, tmp_path, *which)
        seconds, dying = running.end(act)
        print(f"{what}: {seconds:.2f} s, gone {dying:.2f} s later")
        assert seconds < 7, running.said()
        assert dying < DYING, running.said()
        assert "Traceback" not in running.said().partition("histo-mlflow: ")[0], running.said()
        client, run = only_run(store)
        assert run.data.tags["histo.ending"] == "interrupted", running.said()
        if "mlflow run" in what:
            assert "the `mlflow run` that started this training is gone" in running.said()
            assert "is gone" in run.data.tags["histo.cause"]
            assert run.info.status == "KILLED"
        which = ["--run-id", run.info.run_id]
        assert "resume   " in running.said() or not done
        assert len(steps(client, which[1])) > done
        done = len(steps(client, which[1]))

    finished = MlflowRun(store, tmp_path, *which)
    assert finished.process.wait(240) == 0, finished.said()
    client, run = only_run(store)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("FINISHED", "finished")
    assert steps(client, which[1]) == list(range(1, 41))
    models = client.search_logged_models([run.info.experiment_id])
    assert [str(model.status) for model in models] == ["READY"]

    again = MlflowRun(store, tmp_path, *which)
    assert again.process.wait(120) == 0, again.said()
    assert f"run {which[1]} was finished before" in again.said()
    other = MlflowRun(store, tmp_path, *which, "-P", "lr=0.5")
    assert other.process.wait(120) != 0, other.said()
    assert "lr" in other.said()
    client, run = only_run(store)
    assert run.data.params["lr"] == "0.001"
    assert steps(client, which[1]) == list(range(1, 41))


def words_of(process):
    """The beginning of a command line; nothing for a process that has just ended."""
    try:
        return process.cmdline()[:3]
    except psutil.Error:
        return []


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_an_mlflow_run_that_is_killed_at_once_leaves_no_training_and_no_open_run(
    pause, store, tmp_path
):
    """The training is still importing, and finds nobody when it looks after its parent."""
    running = MlflowRun(store, tmp_path)
    deadline = time.monotonic() + 120
    family = []
    while not any("histo-mlflow" in word for p in family for word in words_of(p)):
        assert time.monotonic() < deadline, running.said()
        time.sleep(0.005)
        family = psutil.Process(running.process.pid).children(recursive=True)
    time.sleep(pause)
    running.process.kill()
    running.process.wait()

    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == [], running.said()
    _, run = only_run(store)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("KILLED", "interrupted")
    assert "is gone" in run.data.tags["histo.cause"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_uv_builds_the_environment_from_conda_yaml(store, tmp_path):
    """The real thing: `--env-manager uv` installs everything and trains."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    done = subprocess.run(
        [BIN / "mlflow", "run", str(clone), "--env-manager", "uv", *TINY],
        cwd=tmp_path,
        env={
            **environment(store),
            "MLFLOW_ENV_ROOT": str(tmp_path / "envs"),
            "UV_HTTP_TIMEOUT": "120",
            "UV_HTTP_RETRIES": "10",
        },
        capture_output=True,
        text=True,
        timeout=1400,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    _, run = only_run(store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["histo.ending"] == "finished"
