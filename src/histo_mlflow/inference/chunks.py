"""What of a prediction is done already, kept beside its output so that a kill loses one chunk.

.predictions.parquet.work/
  lock              held by the process that is at it
  manifest.json     what the numbers depend on: models, ids, settings
  chunk-00000.bin   one chunk each: a digest, a line of JSON, the probabilities

A chunk is there whole or not at all, and is taken only if its digest is right, it belongs to this
very prediction, and its images are unchanged. The folder goes when the output has its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from histo_mlflow import files
from histo_mlflow.errors import ResumeError
from histo_mlflow.inference._listing import Item, items_digest

FORMAT = 1
MANIFEST = "manifest.json"
_LOCK = "lock"


@dataclass(frozen=True)
class Chunk:
    """The answers of successive images.

    Attributes:
        probabilities: float64 (n, K); of no meaning in the rows of bad images.
        bad: (position in the chunk, reason), ascending.
        again: it holds images that the system would not let us read; another attempt may.
    """

    probabilities: npt.NDArray[np.float64] = field(repr=False)
    bad: tuple[tuple[int, str], ...] = ()
    again: bool = False

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        """Which rows are answers."""
        good = np.ones(len(self.probabilities), dtype=bool)
        good[[position for position, _ in self.bad]] = False
        return good


@dataclass(frozen=True)
class Work:
    """The folder of an unfinished output.

    Attributes:
        path: of the folder.
        key: digest of all that the numbers depend on.
        noted: what was noted about the machine when it was begun.
    """

    path: Path
    key: str
    noted: Mapping[str, Any]

    def read(
        self, index: int, items: Sequence[Item], k: int, *, final: bool = False
    ) -> Chunk | None:
        """A chunk that is done; None where it has to be done, also again.

        It is done again if its file is damaged, if an image of it could not be read, or if a bad
        image has been mended.

        Args:
            index: of the chunk.
            items: its images.
            k: classes.
            final: take it also if another attempt could read more.

        Raises:
            ResumeError: good images of it have changed since.
        """
        found = self._read(index)
        if found is None:
            return None
        head, body = found
        bad = tuple((int(position), str(reason)) for position, reason in head["bad"])
        mended = [position for position, _ in bad]
        if head["items"] != items_digest(items):
            if head["good_items"] != items_digest(items, mended):
                raise ResumeError(
                    f"{self.path}: images between {items[0].id!r} and {items[-1].id!r} have "
                    "changed since they were predicted; add --restart to begin anew"
                )
            return None
        if (head["again"] and not final) or len(body) != len(items) * k * 8:
            return None
        values = np.frombuffer(body, "<f8").reshape(len(items), k).astype(np.float64)
        return Chunk(values, bad)

    def write(self, index: int, items: Sequence[Item], chunk: Chunk) -> None:
        """Keep a chunk, durably.

        Raises:
            DiskError: it cannot be written.
        """
        head = {
            "key": self.key,
            "index": index,
            "items": items_digest(items),
            "good_items": items_digest(items, [position for position, _ in chunk.bad]),
            "bad": chunk.bad,
            "again": chunk.again,
        }
        body = json.dumps(head).encode() + b"\n" + chunk.probabilities.astype("<f8").tobytes()
        digest = hashlib.sha256(body).hexdigest().encode()
        files.write_bytes(self._file(index), digest + b"\n" + body)

    def _file(self, index: int) -> Path:
        return self.path / f"chunk-{index:05d}.bin"

    def _read(self, index: int) -> tuple[dict[str, Any], bytes] | None:
        try:
            data = self._file(index).read_bytes()
        except FileNotFoundError:
            return None
        digest, _, rest = data.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            return None
        line, _, body = rest.partition(b"\n")
        head: dict[str, Any] = json.loads(line)
        if (head["key"], head["index"]) != (self.key, index):
            return None
        return head, body


def work_folder(out: Path) -> Path:
    """Where the unfinished parts of an output lie."""
    return out.with_name(f".{out.name}.work")


def begun_manifest(folder: Path) -> dict[str, Any] | None:
    """What the unfinished output was begun with; None where nothing was begun.

    Raises:
        ResumeError: the file is not as it was written.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResumeError(f"{path} cannot be read ({error}); add --restart to begin anew") from (
            error
        )
    if not isinstance(found, dict) or found.get("format") != FORMAT or len(found) != 3:
        raise ResumeError(f"{path} is not of format {FORMAT}; add --restart to begin anew")
    return found


def open_work(
    folder: Path, wanted: Mapping[str, Any], noted: Mapping[str, Any], *, restart: bool
) -> Work:
    """Go on with an unfinished output, or begin one. The folder is locked by the caller.

    Args:
        folder: see `work_folder`.
        wanted: JSON values that the numbers depend on, by name; others are refused.
        noted: JSON values that may differ.
        restart: throw away what is there.

    Raises:
        ResumeError: it was begun with other values; the sentence names them.
        DiskError: it cannot be written.
    """
    begun = None if restart else begun_manifest(folder)
    if begun is not None and (differences := list(_differences(begun["wanted"], wanted))):
        raise ResumeError(
            f"{folder} holds a prediction that was begun otherwise: {'; '.join(differences)}. Give "
            "the same command to go on with it, name another --out, or add --restart to begin anew"
        )
    if begun is None:
        for stale in folder.iterdir():
            if stale.name != _LOCK:
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        begun = {"format": FORMAT, "wanted": dict(wanted), "noted": dict(noted)}
        files.write_json(folder / MANIFEST, begun)
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    return Work(folder, key, begun["noted"])


@contextmanager
def only_one(folder: Path, out: Path) -> Iterator[None]:
    """Make the folder, and keep other processes out of it while open.

    The system lets go of the lock when a process dies. A folder in which nothing was begun goes.

    Raises:
        ResumeError: another process predicts into the same output.
        DiskError: the folder cannot be made.
    """
    descriptor = _locked(folder, out)
    try:
        yield
    finally:
        if folder.is_dir() and [path.name for path in folder.iterdir()] == [_LOCK]:
            shutil.rmtree(folder)
        os.close(descriptor)


def _locked(folder: Path, out: Path) -> int:
    path = folder / _LOCK
    while True:
        files.make_folder(folder)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # whoever was at it has finished just now and removed the folder
        except OSError as error:
            with files.told(folder, 0):
                raise error
        try:
            if os.name != "nt":  # pragma: no branch - no flock there
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ResumeError(
                f"another process is predicting into {out}: wait for it, or name another --out"
            ) from error
        # Removed between opening and locking, and perhaps made anew: a lock on nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _differences(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*begun, *wanted}):
        then, now = begun.get(name), wanted.get(name)
        if isinstance(then, Mapping) and isinstance(now, Mapping):
            yield from _differences(then, now)
        elif then != now:
            yield f"{name.replace('_', ' ')} {_short(then)} then, {_short(now)} now"


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
