"""What a request may cost."""

from __future__ import annotations

from dataclasses import dataclass

from histo_mlflow.errors import ServeError
from histo_mlflow.vision.decode import MAX_PIXELS

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What a request, and all of them together, may cost.

    Attributes:
        body_bytes: of one body, as sent and as inflated.
        images: of one request.
        pixels: of one image, read from its header before a pixel is decoded.
        seconds: from the last byte of a request to its answer, the wait in the queue included.
        queue: requests that wait; one more is told to come again.
        workers: threads that compute.
        body_seconds: for a whole body to arrive.
        pause_seconds: without a byte of it, and for the head of a request.
        body_rate: bytes a second that a body must make on average, after the first pause.
        held_bodies: how many largest bodies may be in memory at once, over all requests.
        connections: open at once.
    """

    body_bytes: int = 32 * MIB
    images: int = 1000
    pixels: int = 25_000_000
    seconds: float = 30.0
    queue: int = 16
    workers: int = 1
    body_seconds: float = 60.0
    pause_seconds: float = 5.0
    body_rate: int = 1024
    held_bodies: int = 4
    connections: int = 256

    def __post_init__(self) -> None:
        for name in ("body_bytes", "images", "workers", "held_bodies", "connections"):
            if getattr(self, name) < 1:
                raise ServeError(f"Expected {name} of at least 1, got {getattr(self, name)}.")
        if self.queue < 0:
            raise ServeError(f"Expected a queue of 0 or more, got {self.queue}.")
        if not 1 <= self.pixels <= MAX_PIXELS:
            raise ServeError(
                f"Expected a pixel limit from 1 to {MAX_PIXELS:,}, got {self.pixels:,}."
            )
        for name in ("seconds", "body_seconds", "pause_seconds"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ServeError(
                    f"Expected {name} above 0 and of a day at most, got {getattr(self, name)}."
                )

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies in memory."""
        return self.held_bodies * self.body_bytes

    @property
    def values(self) -> int:
        """JSON or CSV values in one body: one a row and column, far more than a table needs."""
        return 1000 + 16 * self.images
