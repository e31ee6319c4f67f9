"""A body is read: counted as it comes and as it inflates, and not waited for without end."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from histo_mlflow.inference.serving.access import RawHeaders, header
from histo_mlflow.inference.serving.answers import GoneError, RefusedError
from histo_mlflow.inference.serving.limits import MIB, Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_PIECE = MIB // 4
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Budget:
    """The bytes of all bodies that are in memory; used in the event loop only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Count bytes that are about to be held.

        Raises:
            RefusedError: 503, there are too many already.
        """
        if self.held + size > self._limit:
            raise RefusedError(503, "memory", "Too much is being sent at once: try again later.")
        self.held += size

    def give_back(self, size: int) -> None:
        """Count bytes that are not held any more."""
        self.held -= size


class Body:
    """The body of one request.

    Attributes:
        data: what has come so far, inflated.
        whole: whether the last byte has been received.
    """

    def __init__(self, headers: RawHeaders, receive: Receive, limits: Limits, budget: Budget):
        self._headers, self._receive = headers, receive
        self._limits, self._budget = limits, budget
        self.data = bytearray()
        self.whole = False

    async def read(self) -> bytearray:
        """Read all of it.

        Returns:
            The inflated bytes, which count in the budget until `close`.

        Raises:
            RefusedError: 413 too large, as announced, as sent or as inflated; 415 an unknown
                encoding; 400 a damaged one; 408 too slow; 503 too much at once.
            GoneError: the client left.
        """
        inflate = _inflater(header(self._headers, b"content-encoding"))
        announced = header(self._headers, b"content-length")
        if announced is not None and announced.isdigit() and len(announced) < 19:
            self._check_size(int(announced))
        sent, started = 0, time.monotonic()
        while not self.whole:
            data = await self._next(sent, started)
            sent += len(data)
            self._check_size(sent)
            for piece in inflate(data):
                self._check_size(len(self.data) + len(piece))
                self._budget.take(len(piece))
                self.data += piece
                if len(piece) == _PIECE:
                    await asyncio.sleep(0)  # other requests have their turn
        for _ in inflate(None):
            pass  # says whether the end was missing
        return self.data

    def close(self) -> None:
        """Let go of the bytes."""
        self._budget.give_back(len(self.data))
        self.data = bytearray()

    async def discard(self, seconds: float) -> None:
        """Read on without keeping anything, so that the client comes to reading its answer."""
        try:
            async with asyncio.timeout(seconds):
                while not self.whole:
                    message = await self._receive()
                    self.whole = message["type"] != "http.request" or not message.get("more_body")
        except TimeoutError:
            return

    async def _next(self, sent: int, started: float) -> bytes:
        limits = self._limits
        # Slower than `body_rate` on average, after a first pause, is too slow as well.
        left = min(limits.body_seconds, limits.pause_seconds + (sent + 1) / limits.body_rate)
        wait = min(limits.pause_seconds, left - (time.monotonic() - started))
        try:
            message = await self._message(max(wait, 0))
        except TimeoutError as error:
            raise RefusedError(
                408, "slow_body", f"The body came too slowly; {sent:,} bytes had arrived."
            ) from error
        if message["type"] != "http.request":
            raise GoneError("the client left before its body was complete")
        self.whole = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def _message(self, seconds: float) -> Message:
        """The next message, or a TimeoutError where none has come in time."""
        try:
            async with asyncio.timeout(seconds):
                return await self._receive()
        except TimeoutError:
            # An event loop that was held up, by whatever, ends the wait in the same turn in which
            # it comes to read what had arrived: the client is not to blame for that.
            await asyncio.sleep(0)
        async with asyncio.timeout(0):  # takes what lies there already
            return await self._receive()

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            raise RefusedError(
                413,
                "body_too_large",
                f"The body is too large: at most {self._limits.body_bytes:,} bytes are taken, "
                "also after inflating; send fewer images at once.",
            )


Inflate = Callable[[bytes | None], Iterator[bytes]]


def _inflater(encoding: str | None) -> Inflate:
    """A function from a part of a body to pieces of its content; None means that was all."""
    if encoding is None or encoding.lower() in ("", "identity"):
        return lambda data: iter((data,) if data else ())
    window = _WINDOW.get(encoding.lower())
    if window is None:
        raise RefusedError(
            415, "encoding", "That Content-Encoding is not taken: send gzip, deflate or none."
        )
    return _Inflater(window)


class _Inflater:
    """Inflates gzip (of one or more members) or deflate (with or without its header)."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._inside = zlib.decompressobj(window)
        self._begun = False

    def __call__(self, data: bytes | None) -> Iterator[bytes]:
        try:
            yield from self._end() if data is None else self._pieces(data)
        except zlib.error as error:
            raise RefusedError(
                400, "encoding", "The body is damaged: it cannot be inflated."
            ) from error

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inside.eof:
                self._next_member()
            first, self._begun = not self._begun, True
            try:
                piece = self._inside.decompress(data, _PIECE)
            except zlib.error:
                if not (first and self._window == 15):
                    raise
                self._window = -15  # deflate as some clients send it: without the zlib header
                self._inside = zlib.decompressobj(self._window)
                piece = self._inside.decompress(data, _PIECE)
            if piece:
                yield piece
            data = self._inside.unused_data if self._inside.eof else self._inside.unconsumed_tail
            if not data and len(piece) == _PIECE:
                # All was taken in, and more may lie ready than one piece holds.
                while more := self._inside.decompress(b"", _PIECE):
                    yield more

    def _next_member(self) -> None:
        if self._window != 31:
            raise zlib.error("data after the end")
        self._inside = zlib.decompressobj(self._window)

    def _end(self) -> Iterator[bytes]:
        if self._begun and not self._inside.eof:
            raise RefusedError(400, "encoding", "The body is cut off: its inflated end is missing.")
        return iter(())
