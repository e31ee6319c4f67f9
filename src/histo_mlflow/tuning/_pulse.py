"""Signs of life of the worker processes of this machine, apart from the study's storage.

A lease tells that as well, but of a worker that is halted within a transaction it can neither be
given back nor can others renew theirs: the storage is locked until the process is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from histo_mlflow.tuning.shared.every import every
from histo_mlflow.tuning.shared.stillness import Stillness

BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
"""From when on a worker counts as one that hangs: soon enough that those it keeps from renewing
their leases do not count as dead."""
_LOOK_SECONDS = 0.5


def sign_of(log: Path) -> Path:
    """The file that a worker touches, beside its log."""
    return log.with_suffix(".alive")


@contextmanager
def beating(sign: Path) -> Iterator[None]:
    """While open, a thread of a worker touches a file every few seconds; gone afterwards.

    Not to be opened before libraries are imported: that can take long, in one piece, from a disk
    far away.
    """

    def touch() -> None:
        with suppress(OSError):  # nobody concludes anything from a file that is not there
            os.utime(sign)

    sign.touch()
    try:
        with every(BEAT_SECONDS, touch, "sign of life"):
            yield
    finally:
        sign.unlink(missing_ok=True)


class Watch:
    """How long the files of workers have not been touched."""

    def __init__(self) -> None:
        self._stillness = Stillness()

    def is_silent(self, sign: Path) -> bool:
        """Look at a worker's file; whether it was not touched for `SILENT_SECONDS`.

        One that cannot be looked at tells nothing; a worker that begins or ends has none.
        """
        try:
            touched = sign.stat().st_mtime_ns
        except OSError:
            return False
        return self._stillness.is_still(sign, touched, SILENT_SECONDS)


@contextmanager
def watching(look: Callable[[Watch], None]) -> Iterator[None]:
    """While open, a thread of the command looks at its workers, whatever the command waits for."""
    watch = Watch()
    with every(_LOOK_SECONDS, lambda: look(watch), "workers' signs of life"):
        yield
