"""Something done now and then by a thread of its own, while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def every(seconds: float, act: Callable[[], object], name: str) -> Iterator[None]:
    """While open, a thread calls `act` after each pause; at the end a call in progress is awaited.

    Args:
        seconds: length of a pause.
        act: what it raises ends the thread with a traceback.
        name: of the thread.
    """
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            act()

    thread = threading.Thread(target=run, daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
