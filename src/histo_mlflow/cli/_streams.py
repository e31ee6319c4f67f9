"""stdout and stderr when what reads them is gone: a closed pipe, a full disk, no stream at all.

What a command says must not decide what becomes of it: a training goes on when nobody listens any
more. What it was asked for goes to stdout, and that it cannot be had is told.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any, TextIO, cast

from histo_mlflow.errors import DiskError


class Quiet:
    """A stream that falls silent for good once it cannot be written to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._gone = stream, False

    def write(self, text: str) -> int:
        """Write a text if somebody can still get it; its length.

        Raises:
            TypeError: it is no text. click tries bytes to tell what kind of stream this is, and one
                that takes them gets a stream of click's own around it, which does not fall silent.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text was expected, got {type(text).__name__}")
        if not self._gone:
            try:
                return self._stream.write(text)
            except (OSError, ValueError):  # ValueError: the stream is closed
                self._gone = True  # there is nobody left to tell
        return len(text)

    def flush(self) -> None:
        """Write what is buffered; also called by the interpreter as it ends."""
        if not self._gone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._gone = True  # as above

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Told:
    """A stream whose failure is a plain `DiskError`; a closed pipe stays click's to deal with."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._gone = stream, False

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            DiskError: the disk is full, or the stream is not there any more.
        """
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._as_told(error) from error

    def flush(self) -> None:
        """Write what is buffered; once that failed, the interpreter does not try again at its end.

        Raises:
            DiskError: as above.
        """
        if self._gone:
            return
        try:
            self._stream.flush()
        except OSError as error:
            raise self._as_told(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _as_told(self, error: OSError) -> OSError | DiskError:
        if error.errno == errno.EPIPE:
            return error
        self._gone = True
        return DiskError(
            f"the result cannot be written to stdout ({error.strerror or error}); send it to "
            "another file or disk"
        )


def guard() -> None:
    """Put the two in the place of `sys.stdout` and `sys.stderr`, once for the whole process."""
    if sys.stderr is None:
        # The lowest free descriptor is that of stderr, so that no file of ours gets it, into which
        # C libraries would then write what they have to say.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- stays open
    if not isinstance(sys.stderr, Quiet):
        sys.stderr = cast(TextIO, Quiet(sys.stderr))
    if sys.stdout is not None and not isinstance(sys.stdout, Told):
        sys.stdout = cast(TextIO, Told(sys.stdout))
