"""How far a prediction is: a bar at a terminal, else a line at every tenth at most."""

from __future__ import annotations

import sys
from time import perf_counter
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from histo_mlflow.jobs.talk import Talk

LINE_SECONDS = 1.0


class Progress:
    """Counts images.

    Args:
        total: images in all.
        done: images that were done before.
        talk: to the user.
    """

    def __init__(self, total: int, done: int, talk: Talk) -> None:
        self._total, self._done, self._talk = total, done, talk
        self._before = done
        self._begun = self._said_at = perf_counter()
        self._bar: tqdm[NoReturn] | None = None
        if talk.bars:
            self._bar = tqdm(total=total, initial=done, unit="img", leave=False, file=sys.stderr)

    def move(self, images: int = 1) -> None:
        """So many more are done."""
        tenth = self._done * 10 // self._total
        self._done += images
        if self._bar is not None:
            self._bar.update(images)
        elif (
            self._done * 10 // self._total > tenth
            and perf_counter() - self._said_at >= LINE_SECONDS
        ):
            self._said_at = perf_counter()
            self._talk.say("predict", f"{self._done:,} of {self._total:,} images, {self.rate()}")

    def rate(self) -> str:
        """Images/s of this process so far."""
        seconds = max(perf_counter() - self._begun, 1e-9)
        return f"{(self._done - self._before) / seconds:,.1f} images/s"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
