"""Reading files that somebody else may have put there, and may change meanwhile.

A name is opened once and what was opened is looked at: no link, no pipe that waits for a writer, no
device without an end.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from histo_mlflow.errors import ModelFolderError

# Windows has neither; its links are seen before a file is opened.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read_plain(path: Path, most: int | None = None) -> bytes:
    """The content of a plain file.

    Args:
        path: of the file.
        most: bytes that it may have; None: any number.

    Raises:
        ModelFolderError: it is not there, no plain file, or larger.
    """
    with _opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if most is not None and size > most:
            raise ModelFolderError(f"{path} has {size:,} bytes, at most {most:,} were expected")
        # It may grow while it is read; what came too late is not read.
        return stream.read(size)


def plain_sha256(path: Path) -> str:
    """Digest of a plain file, in hexadecimal.

    Raises:
        ModelFolderError: it is not there, or no plain file.
    """
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        descriptor = os.open(path, _FLAGS | _BINARY)
    except OSError as error:
        if path.is_symlink():
            raise ModelFolderError(f"{path} is a link or no plain file") from error
        raise ModelFolderError(f"{path} cannot be read: {error.strerror or error}") from error
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ModelFolderError(f"{path} is a link or no plain file")
        try:
            yield stream
        except OSError as error:
            raise ModelFolderError(f"{path} cannot be read: {error.strerror or error}") from error
