"""Metric points on the local disk, before anything is sent anywhere.

One line of JSON for each `append`, with a checksum, written in one piece and fsynced: what `append`
has returned survives a kill and a power cut. A point is known by its key and step; the journal
holds each once, so an epoch that is trained again after a resume changes nothing.

The file operations go through the module `os`, so that a test can end the process after any one.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from histo_mlflow.files import sync_folder, told
from histo_mlflow.tracking.outbox import Point

logger = logging.getLogger(__name__)

_READ_BYTES = 1 << 20


class Journal:
    """The points of one run, kept in the order in which they came. Safe for several threads.

    Two processes must not write one journal at once; the run folder's lock sees to that.

    Opening cuts off a last line without its end, which a kill in the middle of a write leaves: its
    points were never sent. A line damaged elsewhere is left out and told.

    Args:
        path: made if it is not there; its folder must exist.

    Raises:
        DiskError: the file cannot be opened, read or mended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._points: dict[tuple[str, int], Point] = {}
        self._closed = False
        with told(path.parent, 0):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                self._size = self._load()
                sync_folder(path.parent)
            except BaseException:
                os.close(self._descriptor)
                raise
        self._whole = True  # the file ends where `_size` says

    def append(self, points: Sequence[Point]) -> list[Point]:
        """Write the points whose key and step are not held yet, and wait for the disk.

        Args:
            points: with finite values.

        Returns:
            The points that were written; of two with one key and step, the first.

        Raises:
            DiskError: the disk is full or refuses; the journal is as it was before.
            RuntimeError: the journal is closed.
            ValueError: a value is NaN or infinite.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("metrics were logged to a run that has ended")
            new: dict[tuple[str, int], Point] = {}
            for point in points:
                identity = (point.key, point.step)
                if identity not in self._points:
                    new.setdefault(identity, point)
            if new:
                line = _line(new.values())
                with told(self.path.parent, len(line)):
                    self._write(line)
                self._points.update(new)
            return list(new.values())

    def points(self) -> list[Point]:
        """All points, in the order in which they were written."""
        with self._lock:
            return list(self._points.values())

    def last_step(self, prefix: str) -> int | None:
        """The highest step of the keys that begin so; None when there is none."""
        with self._lock:
            return max((step for key, step in self._points if key.startswith(prefix)), default=None)

    def close(self) -> None:
        """Close the file; further `append` is a bug. A second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)

    def _load(self) -> int:
        """Take up what the file holds, without a torn end; its size in bytes."""
        data = bytearray()
        while part := os.read(self._descriptor, _READ_BYTES):
            data += part
        *lines, torn = bytes(data).split(b"\n")
        for number, line in enumerate(lines, 1):
            points = _points(line)
            if points is None:
                logger.warning(
                    "%s: line %d is damaged and its metric points are left out", self.path, number
                )
                continue
            for point in points:
                self._points.setdefault((point.key, point.step), point)
        size = len(data) - len(torn)
        if torn:
            logger.info("%s: cut off a last line of %d bytes without end", self.path, len(torn))
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        return size

    def _write(self, line: bytes) -> None:
        # Half a line of a failed write must not be glued to the next one.
        if not self._whole:
            os.ftruncate(self._descriptor, self._size)
        self._whole = False
        try:
            left = memoryview(line)
            while len(left):
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)
        self._whole = True


def _line(points: Iterable[Point]) -> bytes:
    rows = [[p.key, p.value, p.timestamp_ms, p.step] for p in points]
    return _encoded({"crc32": _checksum(rows), "points": rows}) + b"\n"


def _points(line: bytes) -> list[Point] | None:
    """The points of a line; None if it is not as it was written."""
    try:
        entry = json.loads(line)
        rows = entry["points"]
        if entry["crc32"] != _checksum(rows):
            return None
        return [Point(key, value, timestamp_ms, step) for key, value, timestamp_ms, step in rows]
    except (ValueError, KeyError, TypeError):
        return None


def _checksum(rows: object) -> int:
    return zlib.crc32(_encoded(rows))


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
