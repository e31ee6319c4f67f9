import errno
import json
import logging
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from histo_mlflow.errors import DiskError
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.tracking.outbox import Point


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def point(step: int, key: str = "train/loss", value: float = 0.1) -> Point:
    return Point(key, value + step / 3, 1_700_000_000_000 + step, step)


def reopened(path: Path) -> list[Point]:
    journal = Journal(path)
    journal.close()
    return journal.points()


def test_what_was_appended_is_there_bit_for_bit_when_it_is_opened_again(path: Path) -> None:
    odd = [Point("val/ä b", math.nextafter(1.0, 2.0), 5, -3), Point("x", 1e-310, 6, 2**40)]
    journal = Journal(path)
    assert journal.append([point(0), *odd]) == [point(0), *odd]
    assert journal.append([point(1)]) == [point(1)]
    assert journal.points() == [point(0), *odd, point(1)]
    assert reopened(path) == [point(0), *odd, point(1)]


def test_each_append_is_one_line_of_json(path: Path) -> None:
    journal = Journal(path)
    journal.append([point(0), point(0, "val/loss")])
    journal.append([point(1)])
    assert [len(json.loads(line)["points"]) for line in path.read_text().splitlines()] == [2, 1]


def test_a_point_of_the_same_key_and_step_is_written_once_and_the_first_stays(path: Path) -> None:
    journal = Journal(path)
    journal.append([point(0), point(1)])
    size = path.stat().st_size
    again = Point("train/loss", 9.0, 9, 1)
    assert journal.append([again]) == []
    assert path.stat().st_size == size
    journal.close()
    resumed = Journal(path)
    assert resumed.append([again, point(2), Point("train/loss", 9.0, 9, 2)]) == [point(2)]
    assert reopened(path) == [point(0), point(1), point(2)]


def test_a_last_line_is_cut_off_wherever_a_kill_tore_it(path: Path) -> None:
    journal = Journal(path)
    journal.append([point(0)])
    whole = path.read_bytes()
    journal.append([point(1), point(1, "val/loss")])
    both = path.read_bytes()
    for end in range(len(whole), len(both)):
        path.write_bytes(both[:end])
        assert reopened(path) == [point(0)]
        assert path.read_bytes() == whole
    mended = Journal(path)
    mended.append([point(1)])
    assert reopened(path) == [point(0), point(1)]


def test_a_damaged_line_is_left_out_and_told_and_the_others_stay(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(path)
    for step in range(4):
        journal.append([point(step)])
    lines = path.read_bytes().split(b"\n")
    for damage in (lines[1].replace(b"train", b"trail"), b"\x00" * 40, b"", b"[]", b'{"crc32":1}'):
        path.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert reopened(path) == [point(0), point(2), point(3)]
        assert "line 2 is damaged" in caplog.text


def test_every_changed_byte_of_a_line_is_noticed(path: Path) -> None:
    Journal(path).append([point(0)])
    whole = path.read_bytes()
    for i in range(len(whole) - 1):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        assert reopened(path) == [], i


def test_the_last_step_is_that_of_the_keys_that_begin_so(path: Path) -> None:
    journal = Journal(path)
    assert journal.last_step("system/") is None
    journal.append([point(7, "system/cpu"), point(9, "system/disk"), point(30)])
    assert journal.last_step("system/") == 9
    assert journal.last_step("") == 30
    assert journal.last_step("test/") is None


def test_an_append_returns_after_one_write_and_the_fsync_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path)
    calls = []
    for name in ("write", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1]
        )
    journal.append([point(i) for i in range(500)])
    assert calls == ["write", "fsync"]
    journal.append([point(3)])
    assert calls == ["write", "fsync"]


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_is_a_plain_error_and_leaves_no_half_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    journal = Journal(path)
    journal.append([point(0)])
    write = os.write

    def full(descriptor: int, data: bytes = b"") -> int:
        if data:
            write(descriptor, bytes(data)[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(DiskError, match="the disk is full"):
            journal.append([point(1)])
    assert journal.points() == [point(0)]
    assert reopened(path) == [point(0)]
    assert journal.append([point(1)]) == [point(1)]
    assert reopened(path) == [point(0), point(1)]


def test_half_a_line_that_could_not_be_taken_back_is_taken_back_by_the_next_append(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path)
    journal.append([point(0)])
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        write(descriptor, bytes(data)[:10])
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        patch.setattr(os, "ftruncate", half)
        with pytest.raises(DiskError):
            journal.append([point(1)])
    journal.append([point(2)])
    assert reopened(path) == [point(0), point(2)]


def test_a_folder_that_is_not_there_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="the disk refuses"):
        Journal(tmp_path / "none" / "metrics.jsonl")


def test_undefined_values_and_a_closed_journal_are_bugs_of_the_caller(path: Path) -> None:
    journal = Journal(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append([Point("x", math.nan, 0, 0)])
    assert path.read_bytes() == b""
    journal.close()
    journal.close()
    with pytest.raises(RuntimeError, match="has ended"):
        journal.append([point(0)])


def test_threads_write_whole_lines_and_no_point_twice(path: Path) -> None:
    journal = Journal(path)
    written: list[Point] = []

    def work() -> None:
        for step in range(60):
            written.extend(journal.append([point(step), point(step, "val/loss")]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {(key, step) for step in range(60) for key in ("train/loss", "val/loss")}
    for points in (written, reopened(path)):
        assert len(points) == 120
        assert {(p.key, p.step) for p in points} == expected


def test_what_append_returned_survives_a_kill(path: Path) -> None:
    script = """
import sys
from pathlib import Path
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.tracking.outbox import Point
journal = Journal(Path(sys.argv[1]))
for step in range(10**9):
    journal.append([Point("a", step / 7, step, step), Point("b", step / 3, step, step)])
    print(step, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 50:
        pass
    process.kill()
    said = [int(line) for line in process.stdout.read().split()]
    process.wait()
    found = reopened(path)
    last = said[-1] if said else 50
    assert len(found) in (2 * (last + 1), 2 * (last + 2))
    assert found[-1] == Point("b", found[-1].step / 3, found[-1].step, found[-1].step)
