"""SIGINT and SIGTERM end a job as an exception that closes the run properly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from histo_mlflow.errors import Interrupted


@contextmanager
def ending_by_signal() -> Iterator[None]:
    """While open, the first SIGINT or SIGTERM raises `Interrupted`; the second ends at once.

    The run is then closed as KILLED on the way out. Outside the main thread, where Python allows no
    handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Interrupted(number)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
