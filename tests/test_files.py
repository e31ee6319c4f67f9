"""Files are there whole or not at all, also when the disk is full or refuses."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from histo_mlflow import files
from histo_mlflow.errors import DiskError


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def failing(monkeypatch):
    """Make a function of `os` fail as a full disk does, from its n-th call on."""

    def fail(name, *, code=errno.ENOSPC, after=0, half=False):
        original, calls = getattr(os, name), []

        def failing_call(*arguments, **options):
            calls.append(arguments)
            if len(calls) <= after:
                return original(*arguments, **options)
            if half and len(calls) == after + 1:
                descriptor, data = arguments
                return original(descriptor, data[: len(data) // 2])
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, name, failing_call)

    return fail


def test_a_file_is_written_and_replaced(tmp_path):
    files.write_text(tmp_path / "a.txt", "früher")
    files.write_json(tmp_path / "a.txt", {"now": "später"})

    assert content(tmp_path) == {"a.txt": '{\n  "now": "später"\n}\n'.encode()}


def test_a_write_of_the_system_that_takes_only_a_part_is_gone_on_with(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: original(fd, data[:7]))
    files.write_bytes(tmp_path / "a", bytes(range(100)))

    assert content(tmp_path) == {"a": bytes(range(100))}


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_full_disk_leaves_what_was_there_and_one_sentence(call, tmp_path, failing):
    path = tmp_path / "a"
    path.write_bytes(b"before")
    failing(call, half=call == "write")
    with pytest.raises(DiskError) as caught:
        files.write_bytes(path, b"x" * 12_345)

    assert content(tmp_path) == {"a": b"before"}
    message = str(caught.value)
    assert message.startswith(f"the disk is full: {tmp_path} needs 12,345 bytes and has ")
    assert message.endswith("free; free some space there and start again")
    assert "\n" not in message


def test_a_quota_counts_as_full_and_another_refusal_is_named(tmp_path, failing):
    failing("fsync", code=errno.EDQUOT)
    with pytest.raises(DiskError, match="the disk is full"):
        files.write_bytes(tmp_path / "a", b"x")
    failing("fsync", code=errno.EIO)
    with pytest.raises(DiskError, match=r"the disk refuses \(Input/output error\)") as caught:
        files.write_bytes(tmp_path / "a", b"x")

    assert str(caught.value).endswith(f": {tmp_path} cannot be written to; name another folder")


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    for folder in (tmp_path / "runs", tmp_path / "runs" / "deeper"):
        with pytest.raises(DiskError) as caught:
            files.make_folder(folder)

        assert str(caught.value) == (
            f"{folder} cannot be a folder: the file {tmp_path / 'runs'} is in the way; "
            "name another folder"
        )


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to step down")
def test_a_folder_that_one_may_not_look_into_is_a_sentence_and_no_traceback(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    code = """
import os, sys
from pathlib import Path
from histo_mlflow import files
from histo_mlflow.errors import DiskError
os.setuid(65534)
try:
    files.make_folder(Path(sys.argv[1]))
except DiskError as error:
    print(error)
"""
    folder = tmp_path / "closed" / "runs"
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
    )

    assert done.stdout == (
        f"the disk refuses (Permission denied): {folder} cannot be written to; "
        "name another folder\n"
    ), done.stderr


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    calls = []
    for name in ("write", "fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, call=original: (calls.append(name), call(*a))[1]
        )
    files.write_bytes(tmp_path / "a", b"x")

    assert calls == ["write", "fsync", "replace", "fsync"]


def test_a_committed_folder_names_the_digest_of_each_file(tmp_path):
    building = tmp_path / ".x.partial"
    files.write_committed(building, {"a": b"one", "b": b"two"}, "commit.json")
    files.rename_folder(building, tmp_path / "x")

    commit = json.loads((tmp_path / "x" / "commit.json").read_text())
    assert commit == {
        name: {"bytes": 3, "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in (("a", b"one"), ("b", b"two"))
    }
    assert commit["a"]["sha256"] == hashlib.sha256(b"one").hexdigest()


def test_the_marker_is_written_when_all_other_files_are_on_disk(tmp_path, failing):
    failing("fsync", after=1)
    with pytest.raises(DiskError, match="needs"):
        files.write_committed(tmp_path / "x", {"a": b"one", "b": b"two"}, "commit.json")

    assert set(content(tmp_path / "x")) == {"a", "b"}


def test_a_folder_that_is_removed_is_never_seen_half_empty(tmp_path, monkeypatch):
    folder = tmp_path / "x"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(name)
    original, seen = os.unlink, []

    def unlink(*arguments, **options):
        seen.append(folder.exists())
        return original(*arguments, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    files.remove_folder(folder)

    assert seen == [False, False]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_the_error_of_a_really_full_device_is_known():
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")

    assert files.is_full(caught.value)


def test_the_need_is_told_of_a_folder_that_is_not_there_yet(tmp_path, failing):
    failing("mkdir")
    with pytest.raises(DiskError, match=r"the disk is full: .*/new/deeper has [\d,]+ free"):
        files.make_folder(tmp_path / "new" / "deeper")


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path):
    files.assert_writable(tmp_path / "a" / "b")

    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DiskError, match="file"):
            files.assert_writable(folder)


def test_several_processes_may_try_the_same_folder_at_once(tmp_path, monkeypatch):
    """Another one's trial has the same name, and may be removed before this one removes its own."""
    write = files.write_new

    def written_and_removed_by_another(path, data):
        write(path, data)
        path.unlink()

    monkeypatch.setattr(files, "write_new", written_and_removed_by_another)
    files.assert_writable(tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_is_not_taken_again(tmp_path, failing, links):
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    if not links:
        failing("link", code=errno.EPERM)
    files.name_if_free(tmp_path / "first", tmp_path / "name")
    with pytest.raises(FileExistsError):
        files.name_if_free(tmp_path / "second", tmp_path / "name")

    assert (tmp_path / "name").read_text() == "first"
