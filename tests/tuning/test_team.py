"""Worker processes of one command: real ones, which do next to nothing."""

import json
import os
import signal
import time
from multiprocessing import forkserver

import pytest

import fake_workers
import queue_workers
from histo_mlflow.errors import StudyError
from histo_mlflow.tuning import _member, _pulse
from histo_mlflow.tuning import team as teams
from histo_mlflow.tuning.order import Order
from histo_mlflow.tuning.team import FRUITLESS, Death, Team


@pytest.fixture
def form(monkeypatch, tmp_path):
    """Teams from the fork server of the queue's tests; whatever is left of them is killed."""
    monkeypatch.setattr(teams, "_context", lambda: queue_workers.CONTEXT)
    made = []

    def formed(program, size=1, devices=("cpu",)):
        order = Order(
            worker="",
            storage="sqlite:///s.db",
            study="s",
            tracking_uri="sqlite:///m.db",
            runs_dir=str(tmp_path),
            definition="{}",
            most_epochs=3,
            plan={"device": "cpu", "threads": 1},
            started_by=0,
        )
        made.append(Team(size, order, list(devices), tmp_path / "logs", program))
        return made[-1]

    yield formed
    for team in made:
        for member in team._members:
            member.process.kill()
            member.process.join()


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def logs(tmp_path):
    return sorted((tmp_path / "logs").glob("*.log"))


def test_each_worker_has_its_own_id_and_the_devices_are_given_in_turn(form, tmp_path):
    team = form(fake_workers.note_order, size=3, devices=["cuda:0", "cuda:1"])
    team.start()
    until(lambda: len(logs(tmp_path)) == 3)
    orders = [Order.from_json(path.read_text()) for path in tmp_path.iterdir() if path.is_file()]

    assert len(team) == 3
    assert sorted(order.plan["device"] for order in orders) == ["cuda:0", "cuda:0", "cuda:1"]
    assert len({order.worker for order in orders}) == 3
    assert {order.started_by for order in orders} == {os.getpid()}
    assert {order.plan["threads"] for order in orders} == {1}


def test_a_killed_worker_is_told_of_once_and_its_place_and_device_are_filled(form, tmp_path):
    team = form(fake_workers.note_order, size=2, devices=["cuda:0", "cuda:1"])
    team.start()
    until(lambda: [log.read_text() for log in logs(tmp_path)] == ["at work\n"] * 2)
    killed = team._members[1]
    os.kill(killed.process.pid, signal.SIGKILL)
    (death,) = until(team.buried)
    again = team.buried()
    team.refill(1, progress=1)
    (new,) = [member for member in team._members if member.place == 1]

    assert death == Death(killed.worker, -signal.SIGKILL, "at work")
    assert death.why == "a worker was killed by SIGKILL"
    assert (again, len(team)) == ([], 2)
    assert new.worker != killed.worker
    order = until(lambda: (tmp_path / new.worker).exists() and (tmp_path / new.worker).read_text())
    assert json.loads(order)["plan"]["device"] == "cuda:1"


def test_of_two_workers_the_one_that_was_halted_is_killed_and_the_other_goes_on(
    form, tmp_path, monkeypatch
):
    monkeypatch.setattr(_pulse, "SILENT_SECONDS", 2.0)
    team = form(fake_workers.beat, size=2)
    team.start()
    # Made after the logs: one that is halted before its first sign of life never counts as hung.
    until(lambda: len(list((tmp_path / "logs").glob("*.alive"))) == 2)
    halted, other = team._members
    os.kill(halted.process.pid, signal.SIGSTOP)
    (death,) = until(team.buried)

    assert death == Death(halted.worker, -signal.SIGKILL, "at work", hung=True)
    assert death.why == "a worker hung and was killed"
    assert other.process.is_alive()
    assert [one.hung for one in team.stop()] == [False]
    assert list((tmp_path / "logs").glob("*.alive")) == []


def test_a_worker_that_failed_is_told_with_its_last_line_and_its_log_is_kept(form, tmp_path):
    team = form(fake_workers.fail)
    team.start()
    (death,) = until(team.buried)

    assert (death.code, death.why, death.blameless) == (1, "the disk is full", True)
    assert [path.read_text().splitlines()[0] for path in logs(tmp_path)] == ["a warning"]


def test_a_worker_that_a_bug_ended_is_told_with_it_and_its_trial_may_be_to_blame(form):
    team = form(fake_workers.fail_by_a_bug)
    team.start()
    (death,) = until(team.buried)

    assert (death.code, death.why, death.blameless) == (1, "ZeroDivisionError: a bug", False)


def test_a_worker_that_ended_well_leaves_no_log(form, tmp_path):
    team = form(fake_workers.end_well)
    team.start()
    (death,) = until(team.buried)

    assert (death.code, logs(tmp_path)) == (0, [])


def test_one_that_says_nothing_is_told_with_its_exit_code():
    assert Death("w", 3, "").why == "a worker ended with exit code 3"


def test_no_worker_is_started_when_one_after_the_other_died_without_an_epoch(form):
    team = form(fake_workers.sleep, size=0)
    for _ in range(FRUITLESS):
        team.refill(1, progress=0)

    with pytest.raises(StudyError, match="9 worker processes were killed one after the other"):
        team.refill(1, progress=0)


def test_an_epoch_between_two_deaths_begins_the_count_anew(form):
    team = form(fake_workers.sleep, size=0)
    for progress in range(1, 3 * FRUITLESS):
        team.refill(1, progress=progress)
    for _ in range(FRUITLESS - 1):
        team.refill(1, progress=progress)

    with pytest.raises(StudyError, match="before one of them ended an epoch"):
        team.refill(1, progress=progress)


def test_stop_asks_workers_to_end_and_kills_those_that_do_not(form, tmp_path, monkeypatch):
    monkeypatch.setattr(_member, "STOP_SECONDS", 0.5)
    obedient, deaf = form(fake_workers.sleep), form(fake_workers.sleep_through_sigterm)
    obedient.start()
    deaf.start()
    until(lambda: any(path.read_text() for path in logs(tmp_path)))
    deaths = [death for team in (obedient, deaf) for death in team.stop()]

    assert [death.code for death in deaths] == [-signal.SIGTERM, -signal.SIGKILL]
    assert [death.blameless for death in deaths] == [True, True]
    assert (len(obedient), len(deaf)) == (0, 0)


def test_workers_whose_server_was_killed_are_asked_to_end_and_started_again(
    form, tmp_path, monkeypatch
):
    """Nothing is known any more of how they end; two at one trial must not be."""
    monkeypatch.setattr(_member, "STOP_SECONDS", 0.3)
    team = form(fake_workers.sleep_through_sigterm, size=1)
    team.start()
    until(lambda: any(path.read_text() for path in logs(tmp_path)))
    (member,) = team._members
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    (death,) = until(team.buried)
    left = member.lives
    team.refill(1, progress=1)
    (new,) = team._members

    assert (death.code, left) == (-signal.SIGKILL, False)
    assert new.lives
