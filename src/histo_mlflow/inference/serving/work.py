"""The bounded queue in front of the threads that compute.

A thread cannot be stopped from outside. So what runs looks at its `Ticket` before each image and
each batch, and ends by itself soon after its time is up or its client has left; what has not begun
is taken out of the queue at once, with all it holds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from histo_mlflow.inference.serving.answers import GoneError, RefusedError

LATE = "The request took longer than this server allows: send fewer images at once."


class Ticket:
    """How long a piece of work may go on."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self._gone = threading.Event()

    @property
    def left(self) -> float:
        """Seconds; less than 0 when the time is up."""
        return self.deadline - time.monotonic()

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self._gone.set()

    def check(self) -> None:
        """Look whether to go on.

        Raises:
            RefusedError: 504, the time is up.
            GoneError: nobody waits.
        """
        if self._gone.is_set():
            raise GoneError("nobody waits for this")
        if self.left <= 0:
            raise RefusedError(504, "timeout", LATE)


T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    work: Callable[[Ticket], Any]
    ticket: Ticket
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    began: bool = field(default=False)

    def tell(self, result: Any, error: BaseException | None) -> None:
        """In the event loop: hand the outcome to whoever still waits."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Workers:
    """Threads that take one piece of work after another.

    Args:
        threads: how many.
        queue: how many pieces may wait; one more is refused.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._most = queue
        self._state = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._running = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"inference-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Pieces of work in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Pieces of work in the threads."""
        return self._running

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        with self._state:
            return self._is_full()

    async def run(
        self, work: Callable[[Ticket], T], ticket: Ticket, gone: asyncio.Future[Any]
    ) -> T:
        """Have something computed.

        Args:
            work: called in a thread with the ticket, at which it looks often.
            ticket: how long it may wait and run.
            gone: done when the client has left.

        Raises:
            RefusedError: 503 when the queue is full, or the time was up before it began; 504 when
                it was up after; or what the work raised.
            GoneError: the client left.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, ticket, loop, loop.create_future())
        self._put(job)
        try:
            await asyncio.wait(
                {job.future, gone}, timeout=ticket.left, return_when=asyncio.FIRST_COMPLETED
            )
            if job.future.done():
                result: T = job.future.result()
                return result
        finally:
            ticket.cancel()
            began = not self._take_back(job)
            job.future.cancel()
        if gone.done():
            raise GoneError("the client left before its answer")
        if began:
            raise RefusedError(504, "timeout", LATE)
        raise RefusedError(503, "timeout", "The server was too busy to begin: try again later.")

    def close(self) -> None:
        """Let the threads end when they have done what they do."""
        with self._state:
            self._closed = True
            self._state.notify_all()

    def _is_full(self) -> bool:
        idle = len(self._threads) - self._running
        return len(self._queue) >= self._most + idle

    def _put(self, job: _Job) -> None:
        with self._state:
            if self._is_full():
                raise RefusedError(503, "queue_full", "The server is busy: try again later.")
            self._queue.append(job)
            self._state.notify()

    def _take_back(self, job: _Job) -> bool:
        """Take a job out of the queue; False when it has begun."""
        with self._state:
            if job.began:
                return False
            self._queue.remove(job)
            return True

    def _run(self) -> None:
        while True:
            with self._state:
                while not self._queue and not self._closed:
                    self._state.wait()
                if self._closed:
                    return
                job = self._queue.popleft()
                job.began = True
                self._running += 1
            result, failure = None, None
            try:
                result = job.work(job.ticket)
            except BaseException as error:  # noqa: BLE001 -- it belongs to whoever waits
                failure = error
            with self._state:
                self._running -= 1
            try:
                job.loop.call_soon_threadsafe(job.tell, result, failure)
            except RuntimeError:  # the loop has been closed: the server has ended meanwhile
                return
            del job, result, failure
