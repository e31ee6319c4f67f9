"""Optuna's journal in a file, in which a full disk or a power cut costs the last record at most.

Optuna appends a record behind whatever the file ends with. Behind half a record, as a short write
or a power cut leaves it, that makes one line of the two, and with it the study cannot be read again
by anybody. Here half a record is overwritten with spaces, which JSON allows before the next one. It
was told to nobody as written, and readers pass over a line without an end.

It is not cut off: a reader that looked at the file's size before, and at a part of the half, would
take the end of a shorter record in its place for the rest of it, and believe what nobody wrote.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from histo_mlflow import files
from histo_mlflow.errors import StudyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_BEGIN = b'{"op_code"'
"""How every record begins that Optuna writes."""
_BLOCK = 4096


def open_journal(path: Path) -> BaseStorage:
    """Optuna's journal in a file, made if it is not there; fit for a network file system.

    Raises:
        StudyError: another kind of file, a damaged one, or it cannot be written to.
    """
    try:
        files.try_folder(path.parent)  # its lock is made there at every write
        if path.exists():
            with path.open("rb+") as file:
                first = file.readline(1 << 20)
            if first and not _is_journal(first):
                raise StudyError(
                    f"the study's storage {path} is not one of Optuna's journals; name another "
                    "with --storage"
                )
        return JournalStorage(JournalFile(path))
    except OSError as error:
        raise StudyError(
            f"the study's storage {path} cannot be written to ({error.strerror or error}); name "
            "another with --storage"
        ) from error


def _is_journal(first_line: bytes) -> bool:
    if not first_line.endswith(b"\n"):
        # Half of the very first record, or the spaces in its place.
        begin = first_line.lstrip()
        return begin.startswith(_BEGIN) or _BEGIN.startswith(begin)
    try:
        return _is_record(json.loads(first_line))
    except ValueError:
        return False


def _is_record(found: object) -> bool:
    return isinstance(found, dict) and "op_code" in found


class JournalFile(JournalFileBackend):
    """Optuna's file of records, one a line; others may use its own class on it at the same time.

    Args:
        path: made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write_lock = JournalFileSymlinkLock(str(path))
        super().__init__(str(path), lock_obj=self._write_lock)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The records from one number on.

        Raises:
            StudyError: a line before the last one is no record.
        """
        number = log_number_from
        try:
            for log in super().read_logs(log_number_from):
                if not _is_record(log):
                    raise ValueError("it has no op_code")
                number += 1
                yield log
        except ValueError as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise StudyError(
                f"the study's storage {self._path} is damaged: line {number + 1} should be one of "
                f"the records of Optuna's journal, in JSON, and is not ({why}); stop whatever uses "
                "the study, keep a copy of the file, and take that line out: the one change to the "
                "study that it held is lost"
            ) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records down durably.

        Raises:
            OSError: the disk is full or refuses; whoever appends next still can.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self._locked():
            self._blank_half_a_record()
            try:
                with self._path.open("ab", buffering=0) as file:
                    left = memoryview(lines)
                    while left:
                        left = left[file.write(left) :]
                    os.fsync(file.fileno())
            except OSError:
                # At once, for Optuna's own class does not look. Whole lines stay: others may have
                # read them. Where it cannot be done, it is by our next append.
                with suppress(OSError):
                    self._blank_half_a_record()
                raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._write_lock.acquire()
        try:
            yield
        finally:
            self._write_lock.release()

    def _blank_half_a_record(self) -> None:
        with self._path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            begin = _end_of_last_line(file, size)
            if begin < size:
                file.seek(begin)
                file.write(b" " * (size - begin))
                file.flush()
                # Before anything comes behind it: a power cut must not keep that and lose this.
                os.fsync(file.fileno())


def _end_of_last_line(file: BinaryIO, size: int) -> int:
    end = size
    while end > 0:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
