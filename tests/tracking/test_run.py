import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from histo_mlflow.errors import Interrupted, TrackingError
from histo_mlflow.tracking.lifecycle import ENDINGS, Ending
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import Store, connect

pytestmark = pytest.mark.alone


def read(store: Store) -> MlflowClient:
    """A client of the test's own, which shares nothing with the code under test but the file."""
    return MlflowClient(tracking_uri=store.tracking_uri)


def begin(store: Store, **params: object):
    return start_run(store, "demo", "first", params, {"kind": "test"}, system_metrics=False)


def test_a_run_holds_what_was_logged_to_it(store: Store, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    (artifacts / "plots").mkdir(parents=True)
    (artifacts / "plots" / "a.txt").write_text("x")
    with begin(store, lr=0.001, model="resnet18") as run:
        for epoch in range(3):
            run.log_epoch(epoch, {"train/loss": 1.0 / (epoch + 1), "val/auc": 0.5 + epoch / 10})
        run.log_metrics({"test/auc": 0.9}, step=2)
        run.log_artifacts(artifacts)
        run.log_dataset("demo", "ab" * 32, "generated", {"train": 10, "val": 3})
        run.end("finished")

    seen = read(store).get_run(run.run_id)
    assert seen.info.status == "FINISHED"
    assert seen.info.run_name == "first"
    assert seen.data.params == {"lr": "0.001", "model": "resnet18"}
    assert seen.data.metrics == {"train/loss": 1 / 3, "val/auc": 0.7, "test/auc": 0.9}
    assert seen.data.tags["kind"] == "test"
    assert seen.data.tags["histo.ending"] == "finished"
    history = read(store).get_metric_history(run.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    entry = seen.inputs.dataset_inputs[0]
    assert (entry.dataset.name, entry.dataset.digest) == ("demo", "ab" * 18)
    assert '"train": 10' in entry.dataset.profile
    assert entry.tags[0].value == "training"
    assert [f.path for f in read(store).list_artifacts(run.run_id)] == ["plots"]


def test_artifacts_of_a_sqlite_store_lie_beside_the_database(store: Store) -> None:
    with begin(store) as run:
        where = read(store).get_run(run.run_id).info.artifact_uri
        run.end("finished")
    assert store.sqlite_path is not None
    assert where.startswith((store.sqlite_path.parent / "mlruns" / "demo").as_uri())


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_has_its_tag_and_only_whole_runs_are_finished(
    store: Store, ending: Ending
) -> None:
    run = begin(store)
    run.end(ending, "because")
    seen = read(store).get_run(run.run_id)
    expected = {"finished": "FINISHED", "early_stopped": "FINISHED", "failed": "FAILED"}
    assert seen.info.status == expected.get(ending, "KILLED")
    assert seen.info.end_time is not None
    assert seen.data.tags["histo.ending"] == ending
    assert seen.data.tags["histo.cause"] == "because"


@pytest.mark.parametrize(
    ("error", "status", "ending"),
    [
        (ValueError("bad http://me:hunter2@x"), "FAILED", "failed"),
        (SystemExit(0), "FAILED", "failed"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
        (Interrupted(15), "KILLED", "interrupted"),
    ],
)
def test_a_run_left_by_an_exception_is_never_finished(
    store: Store, error: BaseException, status: str, ending: str
) -> None:
    run = begin(store)
    run.log_epoch(0, {"train/loss": 1.0})
    with pytest.raises(type(error)), run:
        raise error
    seen = read(store).get_run(run.run_id)
    assert (seen.info.status, seen.data.tags["histo.ending"]) == (status, ending)
    assert type(error).__name__ in seen.data.tags["histo.cause"]
    assert "hunter2" not in seen.data.tags["histo.cause"]
    assert seen.data.metrics == {"train/loss": 1.0}


def test_leaving_without_an_exception_and_without_an_ending_is_finished(store: Store) -> None:
    with begin(store) as run:
        pass
    assert read(store).get_run(run.run_id).info.status == "FINISHED"


def test_the_first_ending_counts(store: Store) -> None:
    with begin(store) as run:
        run.end("pruned")
        run.end("finished")
    assert read(store).get_run(run.run_id).data.tags["histo.ending"] == "pruned"


def test_undefined_values_have_no_point(store: Store) -> None:
    with begin(store) as run:
        run.log_epoch(0, {"val/auc": math.nan, "val/loss": math.inf, "train/loss": 0.5})
    assert read(store).get_run(run.run_id).data.metrics == {"train/loss": 0.5}


def test_names_from_classes_are_made_fit_for_mlflow(store: Store) -> None:
    with begin(store) as run:
        run.log_epoch(0, {"val/auc_a&b: c": 0.5})
    assert read(store).get_run(run.run_id).data.metrics == {"val/auc_a_b_ c": 0.5}


def test_params_beyond_mlflows_limits_are_logged(store: Store) -> None:
    params: dict[str, object] = {f"p{i}": i for i in range(250)}
    with begin(store, **params, long="x" * 10_000, empty="") as run:
        pass
    seen = read(store).get_run(run.run_id).data.params
    assert len(seen) == 252
    assert len(seen["long"]) == 6_000
    assert "10,000 characters, sha256" in seen["long"]
    assert seen["empty"] == ""


def test_the_run_of_mlflow_run_is_continued_and_its_params_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = read(store)
    made = client.create_run("0", run_name="from mlflow run")
    client.log_param(made.info.run_id, "lr", "1e-3")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    with begin(store, lr=0.001, epochs=3) as run:
        run.log_params({"lr": 7, "later": 1})
    assert (run.run_id, run.experiment_id) == (made.info.run_id, "0")
    seen = client.get_run(made.info.run_id)
    assert seen.data.params == {"lr": "1e-3", "epochs": "3", "later": "1"}
    assert seen.info.run_name == "from mlflow run"
    assert client.get_experiment_by_name("demo") is None


def test_further_runs_of_a_project_are_runs_of_their_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = read(store).create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    tags = {"mlflow.parentRunId": parent}
    run = start_run(store, "demo", "child", {}, tags, follow_project=False, system_metrics=False)
    run.end("finished")
    assert run.run_id != parent
    assert read(store).get_run(parent).info.status == "RUNNING"


def test_a_run_of_mlflow_run_that_is_not_in_this_store_is_a_plain_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(TrackingError, match=f"continuing run {'0' * 32} at sqlite:.*not found"):
        begin(store)


def test_an_ended_run_is_running_again_when_it_is_continued(store: Store) -> None:
    with begin(store) as run:
        run.log_epoch(0, {"train/loss": 1.0})
    again = start_run(store, "demo", None, {}, {}, run_id=run.run_id, system_metrics=False)
    assert read(store).get_run(run.run_id).info.status == "RUNNING"
    again.log_epoch(1, {"train/loss": 0.5})
    again.end("finished")
    assert len(read(store).get_metric_history(run.run_id, "train/loss")) == 2


def test_a_deleted_experiment_is_a_plain_error(store: Store) -> None:
    identifier = read(store).create_experiment("demo")
    read(store).delete_experiment(identifier)
    with pytest.raises(TrackingError, match="was deleted; restore it"):
        begin(store)


def test_a_run_deleted_underneath_is_reported_with_the_number_of_points(store: Store) -> None:
    run = begin(store)
    read(store).delete_run(run.run_id)
    run.log_epoch(0, {"train/loss": 1.0, "val/loss": 2.0})
    with pytest.raises(TrackingError, match="2 metric points were not delivered"):
        run.end("finished")


def test_the_exception_that_ended_a_run_stays_the_one_that_is_raised(store: Store) -> None:
    run = begin(store)
    read(store).delete_run(run.run_id)
    with pytest.raises(ZeroDivisionError) as caught, run:
        raise ZeroDivisionError
    assert "closing run" in caught.value.__notes__[0]


def test_an_epoch_is_handed_over_in_less_than_a_millisecond(store: Store) -> None:
    with begin(store) as run:
        metrics = {f"val/m{i}": 0.5 for i in range(20)}
        run.log_epoch(0, metrics)
        seconds = []
        for epoch in range(1, 101):
            start = time.perf_counter()
            run.log_epoch(epoch, metrics)
            seconds.append(time.perf_counter() - start)
        # The median: beside other work the clock of a single call says little.
        assert statistics.median(seconds) < 0.001
    assert len(read(store).get_metric_history(run.run_id, "val/m0")) == 101


def test_system_metrics_are_sampled_beside_the_run(store: Store) -> None:
    with start_run(store, "demo", None, {}, {}) as run:
        run.sample_system()
        deadline = time.monotonic() + 30
        key = "system/cpu_utilization_percentage"
        while key not in read(store).get_run(run.run_id).data.metrics:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_fresh_store_is_made_where_the_process_stands_and_nothing_is_left_over(
    tmp_path: Path,
) -> None:
    script = (
        "from histo_mlflow.tracking.start import start_run\n"
        "from histo_mlflow.tracking.store import connect\n"
        "with start_run(connect(), 'demo', 'a', {'p': 1}, {}) as run:\n"
        "    run.log_epoch(0, {'train/loss': 1.0})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "INFO" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlflow.db"]


@pytest.mark.timeout(600)
@pytest.mark.slow  # four processes that each import MLflow and run its whole schema history
def test_four_processes_can_make_one_fresh_store(tmp_path: Path) -> None:
    script = (
        "from histo_mlflow.tracking.start import start_run\n"
        "from histo_mlflow.tracking.store import connect\n"
        "with start_run(connect(), 'demo', 'a', {'p': 1}, {}) as run: pass\n"
    )
    command = [sys.executable, "-c", script]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in processes:
        _, talk = process.communicate(timeout=250)
        assert process.returncode == 0, talk
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 4


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("./mlruns", "is a folder or a plain name"),
        ("file:///x/mlruns", "is a folder or a plain name"),
        ("sqlite://", "names no file"),
        ("sqlite:////no/such/folder/mlflow.db", "does not exist: /no/such/folder"),
        ("nosuchscheme://x", "nosuchscheme"),
    ],
)
def test_an_address_that_cannot_work_is_a_plain_error(uri: str, words: str) -> None:
    with pytest.raises(TrackingError, match=words):
        connect(uri)


def test_a_file_that_is_no_database_is_a_plain_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)
    with pytest.raises(TrackingError, match="not a SQLite database"):
        connect(f"sqlite:///{path}")
