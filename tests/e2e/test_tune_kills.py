"""Real studies whose processes are killed, interrupted and stopped: nothing is lost or doubled."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from histo_mlflow.tuning.shared import attributes
from histo_mlflow.tuning.shared.queue import Lease
from tuned_studies import (
    assert_whole,
    is_over,
    read,
    still,
    trials_in,
    wait_until,
    workers_of,
    write_study,
)

pytestmark = pytest.mark.slow

KILLS = 20


def tuned(study, store_uri, *, workers, quiet=True):
    return (
        *("tune", "--study", study, "--workers", str(workers), "--doctor", "off"),
        *("--tracking-uri", store_uri, *(("--quiet",) if quiet else ())),
    )


def steps(trials):
    return sum(len(trial.intermediate_values) + trial.state.is_finished() for trial in trials)


def running(trials):
    return [trial for trial in trials if trial.state == TrialState.RUNNING]


def held(trials):
    """Trials that somebody holds."""
    return [trial for trial in running(trials) if Lease.of(trial.user_attrs) is not None]


def at_work(trials):
    """Trials that somebody holds and has trained an epoch of."""
    return [trial for trial in held(trials) if trial.intermediate_values]


def pid_of(trial):
    return Lease.of(trial.user_attrs).worker.pid


def wait_for_an_epoch(folder, pid, said):
    """A trial that is at work, as it was when it was seen; `pid` is that of the command."""
    return wait_until(lambda: at_work(trials_in(folder)), "an epoch", pid=pid, said=said)[0]


@pytest.mark.timeout(900)
def test_twenty_kills_of_workers_lose_nothing_and_count_nothing_twice(start, store_uri, tmp_path):
    """One random worker at a time is killed, at a random moment after something came of it all.

    Every second time it is one that holds a trial: others that are hit cost no life.
    """
    budget, chance = 12, random.Random(int(os.environ.get("KILL_SEED", "0")))
    # Long enough for all the kills, also where most trials are pruned.
    study = write_study(tmp_path, trials=budget, epochs=16, retries=KILLS, images=160)
    process = start(*tuned(study, store_uri, workers=3))
    kills, known = 0, 0
    begun = time.monotonic()
    while kills < KILLS and not is_over(process.pid):
        if (now := steps(trials_in(tmp_path))) <= known:
            time.sleep(0.05)
            continue
        time.sleep(chance.uniform(0.0, 0.5))
        alive = workers_of(process.pid)
        if kills % 2 == 0:
            holders = {pid_of(trial) for trial in held(trials_in(tmp_path))}
            alive = [worker for worker in alive if worker.pid in holders]
        if not alive:
            continue
        try:
            chance.choice(alive).kill()
        except psutil.NoSuchProcess:  # it has ended just now: no kill
            continue
        kills, known = kills + 1, now
    ended = process.wait()

    assert ended.code == 0, ended.said
    told = read(tmp_path, store_uri)
    takes = sum(trial.user_attrs[attributes.TAKES] for trial in told.trials)
    lost = sum(trial.user_attrs.get(attributes.LIVES_LOST, 0) for trial in told.trials)
    print(
        f"{kills} kills in {time.monotonic() - begun:.0f} s: {takes} takes of {budget} trials, "
        f"{lost} lives lost; {', '.join(told.endings())}"
    )
    assert kills == KILLS
    assert_whole(told, budget)
    assert set(told.endings()) <= {"complete", "pruned"}
    assert KILLS / 2 < lost <= KILLS
    assert takes >= budget + lost
    complete = [trial for trial in told.trials if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: (-trial.value, trial.number))[:2]
    assert told.with_checkpoints() == {trial.number for trial in best}
    tags = told.parent.data.tags
    assert tags["histo.study.best_run"] == best[0].user_attrs[attributes.RUN_ID]


@pytest.mark.timeout(900)
def test_a_trial_without_retries_fails_with_its_worker_and_the_others_go_on(
    start, store_uri, tmp_path
):
    study = write_study(tmp_path, trials=3, epochs=40, retries=0)
    process = start(*tuned(study, store_uri, workers=2))
    killed = wait_for_an_epoch(tmp_path, process.pid, process.said)
    os.kill(pid_of(killed), signal.SIGKILL)
    ended = process.wait()

    assert ended.code == 0, ended.said
    told = read(tmp_path, store_uri)
    assert_whole(told, 3)
    failed = [number for number, state in enumerate(told.endings()) if state == "failed"]
    assert failed == [killed.number]
    child = told.child(killed.number)
    assert (child.info.status, child.data.tags["histo.ending"]) == ("FAILED", "failed")
    assert "its worker died once" in child.data.tags["histo.cause"]
    assert killed.number not in told.with_checkpoints()


@pytest.mark.timeout(600)
def test_the_same_command_goes_on_after_ctrl_c_and_after_a_kill_of_the_command(
    start, store_uri, tmp_path
):
    """Its workers end with it, with their trials saved and given back."""
    study = write_study(tmp_path, trials=5, epochs=8, retries=0)
    command = tuned(study, store_uri, workers=2, quiet=False)

    interrupted = start(*command)
    wait_for_an_epoch(tmp_path, interrupted.pid, interrupted.said)
    workers = workers_of(interrupted.pid)
    os.killpg(interrupted.pid, signal.SIGINT)
    ended = interrupted.wait()
    assert ended.code == 130, ended.said
    assert ended.sentence == "ended by SIGINT"
    assert "go on: histo-mlflow tune --study" in ended.said
    assert still(workers) == []
    told = read(tmp_path, store_uri)
    assert running(told.trials) == []
    assert (told.parent.info.status, told.parent.data.tags["histo.ending"]) == (
        "KILLED",
        "interrupted",
    )
    assert not [n for n, runs in told.children.items() if runs[0].info.status == "RUNNING"]
    done = steps(told.trials)

    killed = start(*command)
    wait_until(
        lambda: steps(trials_in(tmp_path)) > done and at_work(trials_in(tmp_path)),
        "more epochs",
        pid=killed.pid,
        said=killed.said,
    )
    workers = workers_of(killed.pid)
    assert len(workers) == 2
    os.kill(killed.pid, signal.SIGKILL)
    moment = time.monotonic()
    wait_until(lambda: not still(workers), "the workers end by themselves", 30.0)
    print(f"workers ended {time.monotonic() - moment:.1f} s after the command was killed")
    killed.wait()
    told = read(tmp_path, store_uri)
    assert running(told.trials) == []
    assert not [n for n, runs in told.children.items() if runs[0].info.status == "RUNNING"]

    finished = start(*command).wait()
    assert finished.code == 0, finished.said
    told = read(tmp_path, store_uri)
    assert_whole(told, 5)
    # No life was lost, or with no retries a trial would have failed.
    assert set(told.endings()) <= {"complete", "pruned"}


@pytest.mark.timeout(900)
def test_a_signal_to_all_processes_of_a_command_costs_no_trial_a_life(start, store_uri, tmp_path):
    """As `timeout`, Slurm and systemd send it: also to the server that workers are forked from."""
    study = write_study(tmp_path, trials=3, epochs=30, retries=0)
    command = tuned(study, store_uri, workers=2, quiet=False)
    stopped = start(*command)
    wait_for_an_epoch(tmp_path, stopped.pid, stopped.said)
    workers = workers_of(stopped.pid)
    everyone = [psutil.Process(stopped.pid), *psutil.Process(stopped.pid).children(recursive=True)]
    for one in everyone:
        one.send_signal(signal.SIGTERM)
    ended = stopped.wait()

    assert (ended.code, ended.sentence) == (143, "ended by SIGTERM")
    assert "exit code 255" not in ended.said
    assert still(workers) == []
    told = read(tmp_path, store_uri)
    assert running(told.trials) == []
    assert not [n for n, runs in told.children.items() if runs[0].info.status == "RUNNING"]
    assert start(*command).wait().code == 0
    told = read(tmp_path, store_uri)
    assert_whole(told, 3)
    assert set(told.endings()) <= {"complete", "pruned"}  # with no retries a lost life fails one


@pytest.fixture
def impatient(store_uri, tmp_path):
    """Starts a study whose workers count as dead after seconds: see `impatient_tune.py`."""
    program = Path(__file__).parent / "impatient_tune.py"
    begun = []

    def start(study, *options, workers=2, folder=tmp_path, **environment):
        words = (*tuned(study, store_uri, workers=workers, quiet=False), *options)
        with (folder / "log").open("w") as log:
            begun.append(
                subprocess.Popen(
                    [sys.executable, program, *words],
                    cwd=folder,
                    env={**os.environ, **environment},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            kill_with_all_it_started(process)


def kill_with_all_it_started(process):
    """What the loss of a machine does to the processes of a command."""
    everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in everyone:
        one.suspend()  # so that nobody has the time to notice
    for one in everyone:
        one.kill()
    process.wait()


@pytest.mark.timeout(600)
def test_a_worker_that_hangs_is_ended_and_its_trial_taken_up_again(impatient, store_uri, tmp_path):
    process = impatient(write_study(tmp_path, trials=3, epochs=40, retries=5))
    said = (tmp_path / "log").read_text
    hung = wait_for_an_epoch(tmp_path, process.pid, said)
    stopped = psutil.Process(pid_of(hung))
    stopped.suspend()

    def taken() -> bool:
        return any(
            trial.number == hung.number and trial.user_attrs[attributes.TAKES] > 1
            for trial in trials_in(tmp_path)
        )

    wait_until(taken, "another worker takes the trial", 120.0, pid=process.pid, said=said)
    assert process.wait(200) == 0, said()
    assert not stopped.is_running()

    told = read(tmp_path, store_uri)
    assert f"a worker hung and was killed: trial {hung.number} will be taken up again" in said()
    assert "Traceback" not in said()
    assert_whole(told, 3)
    assert told.trials[hung.number].user_attrs[attributes.LIVES_LOST] == 1
    assert set(told.endings()) <= {"complete", "pruned"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [1, 14], ids=["as it takes a trial", "within a trial"])
def test_a_worker_that_hangs_with_the_storage_locked_ends_neither_study_nor_others(
    impatient, store_uri, tmp_path, number
):
    """Halted between BEGIN IMMEDIATE and COMMIT, it lets nobody else write, nor give it back."""
    mark = tmp_path / "stopped"
    study = write_study(tmp_path, trials=3, epochs=8, retries=5)
    process = impatient(study, STOP_IN_WRITE=f"{number} {mark}")
    ended, said = process.wait(400), (tmp_path / "log").read_text()

    assert ended == 0, said
    assert not psutil.pid_exists(int(mark.read_text()))
    told = read(tmp_path, store_uri)
    assert_whole(told, 3)
    lost = [trial.user_attrs.get(attributes.LIVES_LOST, 0) for trial in told.trials]
    assert sum(lost) == (number > 1)
    assert set(told.endings()) <= {"complete", "pruned"}


@pytest.mark.timeout(900)
def test_of_two_machines_on_postgresql_the_one_that_is_left_ends_the_study_of_both(
    impatient, postgres_server, store_uri, tmp_path
):
    """Two commands with folders of their own, one store and one database; one is lost."""
    budget = 8
    database = f"machines_{os.getpid()}"
    url = postgres_server.create(database)
    inside = url.replace("postgresql://", "postgresql+psycopg://")
    address = postgres_server.url(database).replace(f":{postgres_server.password}", "")
    machines = {}
    for name in ("stays", "lost"):
        folder = tmp_path / name
        folder.mkdir()
        study = write_study(folder, trials=budget, epochs=40)
        machines[name] = impatient(
            *(study, "--storage", address),
            workers=1,
            folder=folder,
            PGPASSWORD=postgres_server.password,
            HISTO_MLFLOW_CACHE=str(folder / "cache"),
        )

    def at_work_of_lost():
        """The trials that the worker of the second machine has trained an epoch of."""
        pids = {one.pid for one in workers_of(machines["lost"].pid)}
        return [trial for trial in at_work(trials_in(tmp_path, inside)) if pid_of(trial) in pids]

    (taken,) = wait_until(
        at_work_of_lost,
        "an epoch of the lost machine",
        pid=machines["lost"].pid,
        said=(tmp_path / "lost" / "log").read_text,
    )
    kill_with_all_it_started(machines["lost"])
    code, said = machines["stays"].wait(400), (tmp_path / "stays" / "log").read_text()

    assert code == 0, said
    assert f"trial {taken.number} will be taken up again" in said
    assert postgres_server.password not in said + (tmp_path / "lost" / "log").read_text()
    told = read(tmp_path / "stays", store_uri, inside)
    assert_whole(told, budget, at_once=True)
    assert told.trials[taken.number].user_attrs[attributes.LIVES_LOST] == 1
    assert set(told.endings()) <= {"complete", "pruned"}
