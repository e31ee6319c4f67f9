"""The folder of a study's parent run: several commands write into it, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep

from histo_mlflow.errors import BusyError
from histo_mlflow.jobs.run_folder import RunFolder, locked

LOOK_SECONDS = 0.2


@contextmanager
def its_turn(folder: Path) -> Iterator[None]:
    """Wait until no other command writes or uploads what this folder holds, and keep them out.

    Commands with one runs folder end a study within moments of each other, and each replaces the
    report.

    Args:
        folder: of the parent run; made if it is not there.

    Raises:
        DiskError: the folder cannot be written to.
    """
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(RunFolder(folder)))
                break
            except BusyError:
                sleep(LOOK_SECONDS)
        yield
