"""SIGINT, SIGTERM and SIGHUP end a job as an exception that saves and closes the run properly."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from histo_mlflow.errors import Interrupted

LATEST_SECONDS = 3.5
"""A signal waits no longer than this for what should stay whole."""


class Ending:
    """How the process is to end, once a signal has come.

    Attributes:
        torn: something that should have stayed whole was left half-way, by a signal that could wait
            no longer or by an error; whoever puts it right says so.
        why: what `Interrupted` shall say instead of the signal's name.
    """

    def __init__(self) -> None:
        self.torn = False
        self.why: str | None = None
        self._ended = False
        self._signal: int | None = None  # has come and not taken effect yet
        self._held = 0

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A signal that comes while this is open takes effect when it closes.

        An error that leaves it sets `torn`.

        Raises:
            Interrupted: on leaving, or after `LATEST_SECONDS` in the middle; then `torn` is set.
        """
        self._held += 1
        try:
            yield
        except BaseException as error:
            self._held -= 1
            self.torn = True
            if self._signal is not None and not self._held:
                _alarm(0)  # it would come at a random place
                number, self._signal = self._signal, None
                raise Interrupted(number, self.why) from error
            raise
        self._held -= 1
        if self._signal is not None and not self._held:
            _alarm(0)
            self._raise(self._signal)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler: the first signal ends the job, a SIGINT after that leaves at once.

        Any other after the first says nothing new: `mlflow run` sends its child a SIGTERM when
        Ctrl-C, which the terminal gave to both, has reached it, and a terminal that closes sends a
        SIGHUP, as does its shell.
        """
        if self._ended:
            if number == signal.SIGINT:
                with suppress(OSError):  # who reads it may be gone, as `| tee` after a Ctrl-C
                    os.write(2, b"histo-mlflow: left at once; the last checkpoint stands\n")
                os._exit(128 + signal.SIGINT)
            return
        self._ended = True
        if self._held:
            self._signal = number
            _alarm(LATEST_SECONDS)
        else:
            self._raise(number)

    def too_late(self, number: int, frame: FrameType | None) -> None:
        """The handler of the alarm."""
        if self._signal is not None:
            self.torn = self._held > 0
            self._raise(self._signal)

    def _raise(self, number: int) -> None:
        self._signal = None
        raise Interrupted(number, self.why)


@contextmanager
def ending_by_signal() -> Iterator[Ending]:
    """While open, the first SIGINT, SIGTERM or SIGHUP raises `Interrupted`.

    The run is then closed as KILLED on the way out; a second SIGINT ends at once. A SIGHUP that was
    ignored before, as under `nohup`, or handled, stays so. Outside the main thread, where Python
    allows no handlers, nothing changes. Within another one it is the outer's: a first signal is one
    for both.
    """
    outer = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(outer, Ending):
        yield outer
        return
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    handlers = {signal.SIGINT: ending.interrupt, signal.SIGTERM: ending.interrupt}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        handlers[signal.SIGHUP] = ending.interrupt
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = ending.too_late
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield ending
    finally:
        _alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While open, a SIGINT ends the process as the system does it; for imports.

    What Python makes of it is an exception anywhere in somebody else's module, which may swallow it
    or be left half imported. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
