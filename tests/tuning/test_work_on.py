"""What one command tells while it works on a search, with workers that are only told of."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import tuned_studies
from histo_mlflow.errors import TrackingError
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.tuning import work_on as module
from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.study_file import load_study


class Parent:
    """What the parent run was told."""

    def __init__(self):
        self.run_id, self.metrics, self.tags, self.away = "p" * 32, {}, {}, False
        self.sent = []

    def log_metrics(self, metrics, step=0):
        self.metrics |= metrics
        self.sent += [(name, step) for name in metrics]

    def set_tags(self, tags):
        if self.away:
            raise TrackingError("the store is away")
        self.tags |= tags


@pytest.fixture
def search(one_bench, tmp_path, monkeypatch):
    """Works on a search of four trials; `values` are of the trials that end between two looks."""
    monkeypatch.setattr(module, "Team", lambda *_: None)
    monkeypatch.setattr(module, "close_all_lost", lambda *_: None)
    one_bench.study.set_user_attr(attributes.KIND, "search")
    path = tuned_studies.write_study(tmp_path, trials=4, epochs=2)
    parent = Parent()

    def work(*values, **given):
        file = load_study(str(path), given)
        queue = one_bench.queue()

        def supervise(queue, team, *, on_look, **_):
            for value in values:
                on_look(queue.trials())
                queue.finish(queue.claim()._trial_id, "complete", value)

        monkeypatch.setattr(module, "supervise", supervise)
        site = SimpleNamespace(
            queue=lambda _: queue,
            definition=Definition.of(file),
            opened=SimpleNamespace(url="sqlite:///optuna.db"),
            storage=one_bench.opened.storage,
            store=work.store,
            parent=parent,
            most_epochs=2,
            runs_dir=Path(tmp_path),
            folder=Path(tmp_path) / "parent",
            plan={},
            devices=("cpu",),
            workers=1,
            talk=Talk(),
        )
        return module.searched(site, one_bench.study, file)

    work.parent = parent
    work.store = SimpleNamespace(tracking_uri="sqlite:///mlflow.db")
    return work


def test_the_parent_run_is_told_of_the_last_trials_while_slots_still_wait(search):
    found = search(0.5, 0.75)

    assert [one.state.name for one in found] == ["COMPLETE", "COMPLETE", "WAITING", "WAITING"]
    assert search.parent.metrics["trials/complete"] == 2
    assert search.parent.metrics["best/val_auc"] == 0.75
    assert search.parent.tags["histo.study.best_trial"] == 1


def test_a_store_that_is_away_at_the_end_costs_no_study_and_says_what_to_do(search, capsys):
    search.parent.away = True
    search(0.5)
    said = capsys.readouterr().err
    search.parent.away = False
    search()

    assert "WARN     the store is away; going on, the same command tells it again" in said
    assert search.parent.tags["histo.study.best_value"] == 0.5


def test_tags_that_fail_neither_hold_back_points_nor_double_them(search, monkeypatch):
    """Points wait for the store by themselves, also after the last word on the search."""
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.0)
    search.parent.away = True
    search(0.5, 0.75)

    assert search.parent.metrics["trials/complete"] == 2
    assert search.parent.metrics["best/val_auc"] == 0.75
    assert len(search.parent.sent) == len(set(search.parent.sent))


def test_a_budget_that_is_given_otherwise_is_told_with_what_it_was(search, capsys):
    search(trials="200", wall_time="6h")
    search(trials="200", wall_time="6h")
    before = capsys.readouterr().err
    search(trials="40")
    search(wall_time="90s")

    assert "changed" not in before
    holds = "is given; it holds for all who work on the study"
    assert [line for line in capsys.readouterr().err.splitlines() if "changed" in line] == [
        f"changed  trials was 200, 40 {holds}",
        f"changed  wall_time was 6:00:00 h, unset {holds}",
        f"changed  trials was 40, 4 {holds}",
        f"changed  wall_time was unset, 1:30 min {holds}",
    ]


def test_a_command_with_nothing_to_do_closes_the_run_of_a_trial_whose_worker_was_killed(
    search, one_bench, store_uri
):
    search.store = connect(store_uri)
    for name, value in ((attributes.KEY, "k"), (attributes.EXPERIMENT, "e")):
        one_bench.study.set_user_attr(name, value)
    boss = one_bench.queue("boss")
    boss.fill(1, [])
    one_bench.queue("killed").claim()
    boss.reap(dead=["killed"], retries=2)
    run = start_run(search.store, "e", "t", {}, {}, follow_project=False, key="k-0")
    search()

    assert search.store.client.get_run(run.run_id).info.status == "KILLED"
