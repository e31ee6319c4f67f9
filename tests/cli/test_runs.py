"""`histo-mlflow runs sync`: an outage costs nothing but the wait."""

import pytest
from click.testing import CliRunner

from histo_mlflow.cli import cli
from histo_mlflow.errors import HistoMlflowError
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder, locked

PLAN = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "threads": 1}
MACHINE = {"torch": "2.15.0", "device_name": "a CPU", "cpu_capability": "AVX2"}


def sync(*arguments):
    return CliRunner().invoke(cli, ["runs", "sync", *map(str, arguments)])


def refused(*arguments):
    done = sync(*arguments)
    assert done.exit_code == 1
    assert isinstance(done.exception, HistoMlflowError), done.exception
    return str(done.exception)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        assert refused(folder) == f"{folder} holds no run: a folder with a run.json is expected"
    assert not (tmp_path / "none").exists()


@pytest.fixture
def begun(tmp_path, store_uri):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_facts(RunFacts("key", "0" * 32, store_uri, "demo", PLAN, MACHINE))
    return folder


def test_a_folder_in_use_is_left_alone(begun):
    with locked(begun):
        assert "another process is training or delivering" in refused(begun.path)


def test_a_run_that_the_store_does_not_have_is_told(begun):
    begun.journal.touch()
    assert "0" * 32 in refused(begun.path)


@pytest.fixture
def interrupted(tmp_path, store_uri):
    """A run that was left in the middle, with points that the store does not have."""
    from histo_mlflow.tracking.journal import Journal
    from histo_mlflow.tracking.outbox import Point
    from histo_mlflow.tracking.start import start_run
    from histo_mlflow.tracking.store import connect

    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    run = start_run(connect(store_uri), "demo", None, {}, {}, system_metrics=False)
    with run:
        pass
    folder.write_facts(RunFacts("key", run.run_id, store_uri, "demo", PLAN, MACHINE))
    journal = Journal(folder.journal)
    journal.append([Point("val/loss", 0.5, 1_700_000_000_000, epoch) for epoch in (1, 2, 3)])
    journal.close()
    folder.write_outcome({"ending": "interrupted", "cause": "ended by SIGTERM", "result": None})
    return folder, run.run_id


def test_an_interrupted_run_gets_its_points_once_and_its_ending(interrupted, store_uri):
    from mlflow import MlflowClient

    folder, run_id = interrupted
    first, second = sync(folder.path), sync(folder.path)

    assert first.stdout == f"run {run_id}  interrupted  3 points sent\n"
    assert second.stdout == f"run {run_id}  interrupted  0 points sent\n"
    client = MlflowClient(store_uri)
    history = client.get_metric_history(run_id, "val/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert (run.data.tags["histo.ending"], run.data.tags["histo.cause"]) == (
        "interrupted",
        "ended by SIGTERM",
    )


def test_a_run_that_has_not_ended_is_given_its_points_and_stays_open(interrupted):
    folder, run_id = interrupted
    folder.write_outcome(None)

    assert sync(folder.path).stdout == f"run {run_id}  not ended  3 points sent\n"
