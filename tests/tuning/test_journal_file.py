"""Optuna's journal in a file: half a record, from a full disk or a power cut, ends no study."""

import sys
import threading
import time

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

import queue_workers
from histo_mlflow.errors import StudyError
from histo_mlflow.tuning.shared.queue import Queue, Worker
from histo_mlflow.tuning.shared.storage import open_storage
from queue_workers import CONTEXT, value_of

RECORD = b'{"op_code":2,"worker_id":"w","study_id":0,"user_attr":{"k":"' + b"v" * 9000 + b'"}}'
"""A whole one, longer than what is read or looked through at once."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.log"


def opened(path):
    return open_storage(f"journal:///{path}").storage


def made(path):
    """A storage with the study "s" in it."""
    storage = opened(path)
    optuna.create_study(storage=storage, study_name="s")
    return storage


def plain(path):
    """As optuna-dashboard and the command `optuna` open it."""
    return JournalStorage(JournalFileBackend(str(path)))


def add(path, some_bytes):
    with path.open("ab") as file:
        file.write(some_bytes)


def change(storage, name):
    storage.set_study_user_attr(0, name, 1)


def changes(storage):
    return list(storage.get_study_user_attrs(0))


def queue_on(storage, worker):
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
    return Queue(study, storage, Worker(worker, "here", 1))


def work_on_one(queue):
    trial = queue.claim()
    queue.finish(trial._trial_id, "complete", value_of({"x": trial.suggest_float("x", -1, 1)}))


@pytest.mark.parametrize("half", [RECORD[:1], RECORD[:70], RECORD[:5000], RECORD])
def test_a_study_goes_on_behind_half_a_record_for_who_is_at_work_and_who_comes_later(half, path):
    first = queue_on(made(path), "a")
    first.fill(3, [])
    second = queue_on(opened(path), "b")
    work_on_one(first)
    add(path, half)
    work_on_one(second)
    work_on_one(first)

    for storage in (opened(path), plain(path)):
        (study,) = storage.get_all_studies()
        found = storage.get_all_trials(study._study_id)
        assert [one.state for one in found] == [TrialState.COMPLETE] * 3
    assert first.over()
    assert second.over()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
@pytest.mark.parametrize("room", [0, 1, 100, 5000])
def test_a_write_that_is_cut_short_is_told_and_whoever_appends_next_still_can(room, path, tmp_path):
    ours, others = made(path), plain(path)
    before = path.read_bytes()
    arguments = (str(path), room, str(tmp_path / "log"))
    child = CONTEXT.Process(target=queue_workers.change_where_it_ends, args=arguments)
    child.start()
    child.join(60)

    said = (tmp_path / "log").read_text()
    assert f"set study user attr in the study's storage journal:///{path} failed: " in said
    assert "File too large" in said
    assert path.read_bytes() == before + b" " * room

    change(others, "by others")  # with Optuna's own class, which does not look behind what it is
    change(ours, "ours")
    for storage in (ours, others, opened(path), plain(path)):
        assert changes(storage) == ["by others", "ours"]


@pytest.mark.parametrize("whole", [0, 1])
@pytest.mark.parametrize("half", [RECORD[:70], RECORD])
def test_who_was_reading_when_half_a_record_was_written_over_reads_only_what_was_written(
    whole, half, path
):
    """It has looked at the size and, where no whole record is before it, at a part of the half."""
    storage = made(path)
    add(path, (RECORD + b"\n") * whole + half)
    reader = JournalFileBackend(str(path))
    reading = reader.read_logs(0)
    seen = [next(reading)]
    storage.set_study_user_attr(0, "k", "w" * 8600)
    change(storage, "b")
    seen += reading
    seen += reader.read_logs(len(seen))

    assert [log["user_attr"] for log in seen[1 + whole :]] == [{"k": "w" * 8600}, {"b": 1}]
    assert list(reader.read_logs(1 + whole)) == seen[1 + whole :]


@pytest.mark.timeout(90)
def test_processes_and_a_reader_go_on_while_writes_are_cut_short(path, tmp_path):
    storage, log = made(path), tmp_path / "log"
    queue = queue_on(storage, "a")
    queue.fill(8, [])
    arguments = (f"journal:///{path}", "s", "w", 0.02, str(log))
    crew = [CONTEXT.Process(target=queue_workers.work, args=arguments) for _ in range(2)]
    for process in crew:
        process.start()
    lock, over, broken = JournalFileSymlinkLock(str(path)), threading.Event(), []

    def look():
        others = plain(path)
        while not over.is_set():
            try:
                others.get_all_trials(0)
            except ValueError as error:
                broken.append(error)
                return

    looking = threading.Thread(target=look)
    looking.start()
    deadline = time.monotonic() + 60
    while any(one.is_alive() for one in crew) and time.monotonic() < deadline:
        lock.acquire()
        add(path, RECORD[:70])
        lock.release()
        time.sleep(0.02)
    over.set()
    looking.join()

    assert [one.exitcode for one in crew] == [0, 0]
    assert sorted(log.read_text().splitlines()) == [f"{number}" for number in range(8)]
    assert broken == []
    assert queue.over()


@pytest.mark.parametrize("left", [b'{"op_c', b'{"op_code":0,"worker_id":"', b"   ", b'  {"op'])
def test_half_of_the_very_first_record_is_no_other_kind_of_file(left, path):
    path.write_bytes(left)
    storage = made(path)

    assert path.read_bytes().startswith(b" " * len(left) + b'{"op_code"')
    assert changes(storage) == changes(opened(path)) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (RECORD[:70] + RECORD, "Expecting"),
        (RECORD + RECORD, "Extra data"),
        (b"\xff", "can't decode byte 0xff"),
        (b"", "Expecting value"),
        (b"5", "it has no op_code"),
    ],
)
def test_a_line_that_is_no_record_is_told_while_running_and_the_study_goes_on_without_it(
    line, why, path
):
    storage, reader = made(path), opened(path)
    change(storage, "before")
    assert changes(reader) == ["before"]
    add(path, line + b"\n" + RECORD + b"\n")
    with pytest.raises(StudyError) as caught:
        change(storage, "more")

    assert f"the study's storage {path} is damaged: line 3 should be one of" in str(caught.value)
    assert why in str(caught.value)
    assert "take that line out" in str(caught.value)
    for fails in (lambda: changes(reader), lambda: changes(storage), lambda: opened(path)):
        with pytest.raises(StudyError, match="is damaged: line 3 should"):
            fails()

    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert changes(opened(path)) == ["before", "k", "more"]
