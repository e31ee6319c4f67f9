"""Files that are there whole or not at all, also after a kill, a power cut or a full disk.

Everything that a run must not lose is written through here: bytes first, `fsync`, then the name,
then `fsync` of the folder. The calls go through the module `os`, one file operation each, so that a
test can end the process after any one of them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from histo_mlflow.errors import DiskError

PARTIAL = ".partial"
"""How the name of a file ends that is still being written; what a kill leaves can be removed."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file durably: it holds `data` afterwards, or what it held before.

    Raises:
        DiskError: the disk is full or refuses; what was there before is intact.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    with told(path.parent, len(data)):
        try:
            write_new(partial, data)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of JSON, indented, with a line break at the end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and its parents; nothing happens if it is there.

    Raises:
        DiskError: it cannot be made.
    """
    with told(path, 0):
        path.mkdir(parents=True, exist_ok=True)


def assert_writable(folder: Path) -> None:
    """Make a folder if it is not there, and try whether files can be made in it.

    Raises:
        DiskError: not so.
    """
    make_folder(folder)
    with told(folder, 0):
        try_folder(folder)


def try_folder(folder: Path) -> None:
    """Make an empty file in a folder and remove it; permissions do not tell of a read-only disk.

    Raises:
        OSError: no file can be made in it.
    """
    trial = folder / f".trial{PARTIAL}"
    write_new(trial, b"")
    trial.unlink(missing_ok=True)  # other processes may be trying the same folder


def sync_folder(folder: Path) -> None:
    """`fsync` a folder, so that the names in it survive a power cut; not on Windows."""
    if os.name != "nt":
        _sync(folder)


def sync_tree(folder: Path) -> None:
    """`fsync` a folder with all that is in it, written by whatever means.

    Raises:
        DiskError: the disk is full or refuses.
    """
    with told(folder, 0):
        for path in [*folder.rglob("*"), folder]:
            if path.is_dir():
                sync_folder(path)
            else:
                _sync(path)


def write_committed(folder: Path, contents: Mapping[str, bytes], marker: str) -> None:
    """Make a folder, write files into it, and last of all `marker`: JSON with size and digest of
    each of them.

    Raises:
        DiskError: the disk is full or refuses.
    """
    digests = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in contents.items()
    }
    commit = (json.dumps(digests, indent=1) + "\n").encode()
    with told(folder.parent, sum(map(len, contents.values())) + len(commit)):
        os.mkdir(folder)
        for name, data in contents.items():
            write_new(folder / name, data)
        write_new(folder / marker, commit)
        sync_folder(folder)


def rename_folder(folder: Path, name: Path) -> None:
    """Give a folder its final name in the same parent, durably; the name must be free."""
    with told(folder.parent, 0):
        os.rename(folder, name)
        sync_folder(folder.parent)


def name_if_free(temporary: Path, path: Path) -> None:
    """Rename a file without replacing another.

    Raises:
        FileExistsError: somebody else's file has the name.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the window is microseconds wide
        if path.exists():
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def remove_folder(folder: Path) -> None:
    """Remove a folder of files such that a kill on the way leaves no half of it under its name."""
    doomed = folder.with_name(f".{folder.name}.removed{PARTIAL}")
    with told(folder.parent, 0):
        if doomed.exists():
            shutil.rmtree(doomed)
        if folder.is_dir():
            os.rename(folder, doomed)
            shutil.rmtree(doomed)
        else:  # a file in its place, which is as unwanted
            os.unlink(folder)
        sync_folder(folder.parent)


@contextmanager
def told(folder: Path, needed: int) -> Iterator[None]:
    """Turn an error of the disk into one sentence: the path, what is wrong with it, what to do.

    Of a full disk it says the need and what is free.

    Raises:
        DiskError: instead of the `OSError`.
    """
    try:
        yield
    except OSError as error:
        why = _full(folder, needed) if is_full(error) else _refused(folder, error)
        raise DiskError(why) from error


@contextmanager
def told_if_full(folder: Path, needed: int = 0) -> Iterator[None]:
    """`told` for a full disk alone, around work in which other errors are not the disk's.

    Raises:
        DiskError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        with told(folder, needed):
            raise


def is_full(error: OSError) -> bool:
    """Whether the disk, or what the user may use of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _full(folder: Path, needed: int) -> str:
    free = shutil.disk_usage(_nearest(folder)).free
    need = f" needs {needed:,} bytes and" if needed else ""
    return (
        f"the disk is full: {folder}{need} has {free:,} free; free some space there and start again"
    )


def _refused(folder: Path, error: OSError) -> str:
    """What else keeps a folder from being written to; space would not help."""
    if not (nearest := _nearest(folder)).is_dir():
        return f"{folder} cannot be a folder: the file {nearest} is in the way; name another folder"
    return (
        f"the disk refuses ({error.strerror or error}): {folder} cannot be written to; name "
        "another folder"
    )


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there and can be seen."""
    # `Path.exists` raises where a folder above may not be looked into.
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if os.path.exists(p))


def write_new(path: Path, data: bytes | memoryview) -> None:
    """Write and `fsync` a file under a name that nobody reads yet.

    Raises:
        OSError: for the caller's `told`.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        left = memoryview(data)
        while len(left):
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
