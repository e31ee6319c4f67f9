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


def test_a_run_that_has_not_ended_is_given_its_points_and_stays_open(interrupted, store_uri):
    from mlflow import MlflowClient

    folder, run_id = interrupted
    folder.write_outcome(None)
    MlflowClient(store_uri).update_run(run_id, "RUNNING")

    assert sync(folder.path).stdout == f"run {run_id}  not ended  3 points sent\n"
    assert MlflowClient(store_uri).get_run(run_id).info.status == "RUNNING"


@pytest.mark.parametrize("ended", [True, False])
def test_what_was_known_before_the_first_step_reaches_the_store_of_an_unfinished_run(
    ended, interrupted, store_uri
):
    from mlflow import MlflowClient

    folder, run_id = interrupted
    if not ended:
        folder.write_outcome(None)
    folder.begin.mkdir()
    (folder.begin / "recipe.yaml").write_text("name: demo\n")
    folder.note_dataset("demo", "0f" * 32, "somewhere", {"train": 3, "val": 1})

    assert [sync(folder.path).exit_code for _ in range(2)] == [0, 0]
    client = MlflowClient(store_uri)
    assert [entry.path for entry in client.list_artifacts(run_id)] == ["recipe.yaml"]
    (dataset,) = client.get_run(run_id).inputs.dataset_inputs
    assert dataset.dataset.name == "demo"


def test_a_beginning_that_is_not_whole_is_not_sent(interrupted, store_uri):
    from mlflow import MlflowClient

    folder, run_id = interrupted
    folder.begin.mkdir()
    (folder.begin / "recipe.yaml").write_text("na")

    assert sync(folder.path).exit_code == 0
    assert MlflowClient(store_uri).list_artifacts(run_id) == []


def test_points_that_the_store_refuses_are_an_error_that_counts_them(interrupted, store_uri):
    from histo_mlflow.tracking.journal import Journal
    from histo_mlflow.tracking.outbox import Point

    folder, run_id = interrupted
    journal = Journal(folder.journal)
    journal.append([Point("no such: name?", 0.5, 1_700_000_000_000, 1)])
    journal.close()

    message = refused(folder.path)
    assert message.startswith(f"1 metric points of run {run_id} were not delivered to {store_uri}")
    assert "no such: name?" in message
    assert str(folder.journal) in message


def test_a_finished_run_that_was_made_failed_is_finished_again(interrupted, store_uri):
    from mlflow import MlflowClient

    folder, run_id = interrupted
    result = {"run_id": run_id, "best_epoch": 1, "epochs": 1, "seconds": 1.0, "test": {}}
    folder.write_outcome({"ending": "finished", "cause": None, "result": result})
    folder.note_delivered("model_id", "m-1")
    folder.note_delivered("ended")
    client = MlflowClient(store_uri)
    client.set_terminated(run_id, "FAILED")

    assert sync(folder.path).exit_code == 0
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["histo.ending"]) == ("FINISHED", "finished")


def test_a_store_whose_credentials_are_kept_nowhere_is_asked_for(begun, tmp_path, monkeypatch):
    from dataclasses import replace

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    address = "http://[redacted]@127.0.0.1:9"
    begun.write_facts(replace(begun.facts(), tracking_uri=address))

    assert refused(begun.path) == (
        f"the run was begun at {address}, whose credentials are kept nowhere: give the address "
        "with --tracking-uri or MLFLOW_TRACKING_URI"
    )
    assert list(elsewhere.iterdir()) == []
