"""The folder of a study's parent run: several commands write into it, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from histo_mlflow import files

LOCK = ".report.lock"
LOOK_SECONDS = 0.2


@contextmanager
def its_turn(folder: Path) -> Iterator[None]:
    """Wait until no other command writes or uploads what this folder holds, and keep them out.

    Commands with one runs folder end a study within moments of each other, and each replaces the
    report. The system lets go of the lock when a process dies.

    Args:
        folder: of the parent run; made if it is not there.

    Raises:
        DiskError: the folder cannot be written to.
    """
    files.make_folder(folder)
    if os.name == "nt":  # pragma: no cover - no flock there
        yield
        return
    import fcntl

    with files.told(folder, 0):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with files.told(folder, 0):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    sleep(LOOK_SECONDS)  # and not in `flock`, where a signal may wait
        yield
    finally:
        os.close(descriptor)
