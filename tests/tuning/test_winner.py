"""Which of several commands trains a confirmation's winner, and what the others have of it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from histo_mlflow.errors import BusyError, DiskError
from histo_mlflow.jobs.run_folder import RunFacts, RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import TrainResult
from histo_mlflow.recipe import load
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import winner
from histo_mlflow.tuning.shared.queue import Queue, Worker
from histo_mlflow.tuning.winner import train_winner

KEY = "k-winner-0123abcd"


@pytest.fixture
def bench(one_bench, store_uri, tmp_path, monkeypatch):
    """Makes sites, one for each command, that see one study and one store."""
    monkeypatch.setattr(winner, "LOOK_SECONDS", 0.02)

    def site(name, grace=60.0):
        def queue(study):
            worker = Worker(name, "here", 1)
            return Queue(study, one_bench.opened.storage, worker, grace_seconds=grace)

        return SimpleNamespace(
            storage=one_bench.opened.storage,
            queue=queue,
            store=connect(store_uri),
            experiment="e",
            title="s",
            parent=SimpleNamespace(run_id="p" * 32),
            runs_dir=tmp_path / name,
            definition=SimpleNamespace(base=lambda: load("demo"), elsewhere={"threads"}),
            plan={"threads": 1},
            talk=Talk(quiet=True),
        )

    return SimpleNamespace(site=site, slot=f"{one_bench.study.study_name} winner")


@pytest.fixture
def trainings(monkeypatch):
    """Stands in for `train`: the calls, and what each does before its run is finished."""
    done = SimpleNamespace(calls=[], first=lambda: None)

    def train(recipe, *, tracking_uri, experiment, runs_dir, run_dir, child, **_):
        assert child.may_differ == {"threads"}
        done.calls.append(run_dir)
        done.first()
        return finished(connect(tracking_uri), child.key, runs_dir)

    monkeypatch.setattr(winner, "train", train)
    return done


def finished(store, key, runs_dir):
    options = {"follow_project": False, "system_metrics": False, "key": key}
    with start_run(store, "e", "w", {}, {}, **options) as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, {"val/auc": 0.8, "epoch_seconds": 2.0})
        run.log_metrics({"best_epoch": 2, "test/auc": 0.75}, step=2)
    return TrainResult(
        run.run_id, "finished", 2, 3, 6.0, {"auc": 0.75}, "m-1", Path(runs_dir) / run.run_id
    )


def trained(bench, site):
    return train_winner(site, load("demo"), bench.slot, KEY)


def test_of_several_commands_one_trains_and_the_others_have_its_result(bench, trainings):
    waiting = threading.Barrier(3)
    says = []

    def say(topic, text):
        says.append(text)
        if "waits" in text:
            waiting.wait(30)

    trainings.first = lambda: waiting.wait(30)
    sites = [bench.site(name) for name in "abc"]
    for site in sites:
        site.talk = SimpleNamespace(say=say)
    with ThreadPoolExecutor(3) as commands:
        results = list(commands.map(lambda site: trained(bench, site), sites))

    assert trainings.calls == [None]
    assert results[0] == results[1] == results[2]
    assert sum("waits until it has ended" in text for text in says) == 2


def test_a_command_that_is_given_afterwards_elsewhere_trains_nothing(bench, trainings):
    first = trained(bench, bench.site("a"))

    assert trained(bench, bench.site("b")) == first
    assert len(trainings.calls) == 1


def test_a_finished_run_whose_owner_was_killed_then_is_read_from_the_store(bench, trainings):
    site = bench.site("b")
    run = finished(site.store, KEY, "elsewhere")
    found = trained(bench, site)

    assert trainings.calls == []
    assert (found.run_id, found.ending) == (run.run_id, "finished")
    assert (found.best_epoch, found.epochs, found.seconds) == (2, 3, 6.0)
    assert (found.headline(), found.model_id) == ({"auc": 0.75}, "")


def test_a_finished_run_whose_files_are_here_is_looked_into_there(bench, trainings):
    site = bench.site("a")
    run = finished(site.store, KEY, "a")
    folder = RunFolder(site.runs_dir / run.run_id)
    folder.path.mkdir(parents=True)
    folder.write_facts(RunFacts(KEY, run.run_id, site.store.shown_uri, "e", {}, {}))
    trained(bench, site)

    assert trainings.calls == [folder.path]


def test_a_run_that_was_deleted_is_trained_anew(bench, trainings):
    site = bench.site("a")
    first = trained(bench, site)
    site.store.client.delete_run(first.run_id)

    assert trained(bench, site).run_id != first.run_id
    assert len(trainings.calls) == 2


def test_what_an_owner_could_not_train_the_next_command_takes_up(bench, trainings):
    def full():
        raise DiskError("the disk is full")

    trainings.first = full
    with pytest.raises(DiskError):
        trained(bench, bench.site("a"))
    trainings.first = lambda: None
    trained(bench, bench.site("b"))

    assert len(trainings.calls) == 2


def test_the_winner_of_an_owner_that_was_killed_is_taken_up_by_one_that_waits(bench, trainings):
    killed = winner._queue(bench.site("killed"), f"{bench.slot} 0123abcd")
    killed.fill(1, ())
    assert killed.claim() is not None

    trained(bench, bench.site("b", grace=0.1))
    assert len(trainings.calls) == 1


def test_a_run_that_was_begun_elsewhere_is_closed_and_another_one_is_the_winners(bench, trainings):
    site = bench.site("b")
    begun = start_run(site.store, "e", "w", {"data_dir": "/a"}, {}, system_metrics=False, key=KEY)
    found = trained(bench, site)
    left = site.store.client.get_run(begun.run_id)

    assert found.run_id != begun.run_id
    assert left.info.status == "FAILED"
    assert "trained anew" in left.data.tags["histo.cause"]
    assert trained(bench, bench.site("c")) == found


def test_a_folder_that_another_process_has_its_hands_on_is_waited_for(bench, trainings):
    def busy():
        if len(trainings.calls) < 3:
            raise BusyError("another process is training")

    trainings.first = busy
    trained(bench, bench.site("a"))
    assert len(trainings.calls) == 3
