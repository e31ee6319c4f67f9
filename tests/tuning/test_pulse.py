"""Signs of life of worker processes, with real files and clocks that the tests move."""

import os
import time

import pytest

from histo_mlflow.tuning import _pulse
from histo_mlflow.tuning.shared.stillness import Stillness


@pytest.fixture
def clock(monkeypatch):
    """Seconds of whoever watches; to be moved by hand."""
    now = [0.0]
    monkeypatch.setattr(_pulse, "Stillness", lambda: Stillness(lambda: now[0]))
    return now


@pytest.fixture
def sign(tmp_path):
    path = _pulse.sign_of(tmp_path / "worker.log")
    path.touch()
    return path


def looks(watch, sign, clock, seconds, every=0.5):
    found = []
    while clock[0] < seconds:
        found.append(watch.is_silent(sign))
        clock[0] += every
    return found


def test_a_worker_is_silent_once_its_file_was_not_touched_for_half_a_minute(clock, sign):
    found = looks(_pulse.Watch(), sign, clock, 31.0)

    assert found == [False] * 60 + [True] * 2


def test_a_touch_begins_the_time_anew(clock, sign):
    watch = _pulse.Watch()
    looks(watch, sign, clock, 29.0)
    os.utime(sign, ns=(1, 1))

    assert looks(watch, sign, clock, 58.0) == [False] * 58
    assert looks(watch, sign, clock, 60.0)[-1] is True


def test_a_pause_of_the_whole_machine_is_no_proof(clock, sign):
    watch = _pulse.Watch()
    watch.is_silent(sign)
    clock[0] += 3600.0

    assert watch.is_silent(sign) is False


def test_nothing_is_concluded_from_a_file_that_is_not_there(clock, tmp_path):
    watch = _pulse.Watch()

    assert not any(looks(watch, tmp_path / "none", clock, 100.0))


@pytest.fixture
def touched(sign):
    """Waits until the file is touched."""

    def wait():
        os.utime(sign, ns=(1, 1))
        deadline = time.monotonic() + 20.0
        while sign.stat().st_mtime_ns == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait


def test_a_worker_touches_its_file_until_its_work_ends(sign, touched, monkeypatch):
    monkeypatch.setattr(_pulse, "BEAT_SECONDS", 0.01)
    with _pulse.beating(sign):
        touched()
        touched()

    assert not sign.exists()


def test_a_file_that_was_removed_ends_no_work(sign, touched, monkeypatch):
    monkeypatch.setattr(_pulse, "BEAT_SECONDS", 0.01)
    with _pulse.beating(sign):
        sign.unlink()
        time.sleep(0.05)
        sign.touch()
        touched()
