"""Lines at the end of a terminal that are replaced in place, below the messages that go on.

The sequences are those of ECMA-48 that every terminal knows: up, erase to the end of the line, and
erase below. One write a redraw, over what stood there: nothing flickers.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Callable
from typing import Any, TextIO

from histo_mlflow.tuning.report._text_width import ELLIPSIS, columns

Drawer = Callable[[int, int, bool], list[str]]
"""Lines for a width and a number of rows; ASCII alone if the third is true."""
_UP, _ERASE_LINE, _ERASE_BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"


class Live:
    """A stream around a terminal that keeps some lines below all that is written to it.

    A message that does not end its line hides them until it does. For any thread.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._widths: list[int] = []  # of the lines that stand there now
        self._drawer: Drawer | None = None
        self._at_line_start = True

    def draw(self, drawer: Drawer) -> None:
        """Replace the lines."""
        with self._lock:
            self._drawer = drawer
            if self._at_line_start:
                self._put(self._up() + self._drawn())

    def clear(self) -> None:
        """Take the lines off the screen for good."""
        with self._lock:
            self._drawer = None
            if self._widths:
                self._put(self._up() + _ERASE_BELOW)
            self._widths = []

    def write(self, text: str) -> int:
        """Write a message above the lines; its length.

        Raises:
            TypeError: it is no text; see `cli._streams.Quiet`.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text was expected, got {type(text).__name__}")
        with self._lock:
            if not text:
                return 0
            before = self._up() + _ERASE_BELOW if self._widths else ""
            self._widths = []
            self._at_line_start = text.endswith("\n")
            after = self._drawn() if self._at_line_start and self._drawer is not None else ""
            self._put(before + text + after)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _up(self) -> str:
        """To the first column of the first line; narrower than before, lines have become several.

        Terminals break lines anew when they are resized; one that cuts them instead loses some
        lines of earlier messages from the screen.
        """
        width, _ = self._size()
        rows = sum(max(math.ceil(wide / width), 1) for wide in self._widths)
        return "\r" + (_UP.format(rows) if rows else "")

    def _drawn(self) -> str:
        if self._drawer is None:
            return ""
        width, rows = self._size()
        # Some terminals begin a new line after their last column, some after the next character.
        found = self._drawer(width - 1, rows - 1, not self._shows_all())
        self._widths = [columns(line) for line in found]
        return "".join(f"{line}{_ERASE_LINE}\n" for line in found) + _ERASE_BELOW

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _size(self) -> tuple[int, int]:
        """Columns and rows of this very terminal; stdout may be a file."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            size = shutil.get_terminal_size()
        return size.columns or 80, size.lines or 24  # a pseudo-terminal may have no size

    def _shows_all(self) -> bool:
        try:
            (ELLIPSIS + "é").encode(self._stream.encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            return False
        return True
