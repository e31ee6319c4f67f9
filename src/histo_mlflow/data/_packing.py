"""Decoding many images into the rows of one memory map, on all cores.

The workers are processes: decoding small images spends most of its time under the interpreter's
lock, so threads gain nothing there. They are spawned, not forked, since the caller may hold
torch's threads, and they import neither torch nor anything else that is slow to load. They write
their rows themselves; only the reasons of failures travel back.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from histo_mlflow.errors import DataError, ImageError
from histo_mlflow.vision.decode import DecodeRule, Pixels, decode, from_array

_CHUNK = 128
# Below this the second that it takes to start processes is not won back.
_ALONE_BELOW = 2000
_HDF5_PIXELS = "x"

Problem = tuple[int, str]


@dataclass(frozen=True)
class Item:
    """One image to pack: a file, or with `row` a row of the data set "x" of an HDF5 file."""

    id: str
    path: Path
    row: int | None = None


def fill(
    items: Sequence[Item], rule: DecodeRule, pixels: Path, *, workers: int | None, progress: bool
) -> list[Problem]:
    """Decode item i into row i of `pixels`, a .npy file of the right shape, for all items.

    Returns:
        (row, reason) of every image that cannot be decoded, by row; their pixels stay zero.

    Raises:
        DataError: HDF5 rows are asked for and h5py is not installed.
    """
    if any(item.row is not None for item in items):
        _require_h5py()
    order = sorted(range(len(items)), key=lambda row: (str(items[row].path), items[row].row or 0))
    chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
    workers = min(workers or _cores(), len(chunks))
    alone = workers == 1 or len(items) < _ALONE_BELOW
    bar = tqdm(
        total=len(items), desc="packing", unit=" images", disable=not progress, file=sys.stderr
    )
    with bar:
        problems = []
        for count, found in (
            _in_turn(items, chunks, rule, pixels)
            if alone
            else _in_processes(items, chunks, rule, pixels, workers)
        ):
            bar.update(count)
            problems += found
    return sorted(problems)


def _in_turn(
    items: Sequence[Item], chunks: Sequence[list[int]], rule: DecodeRule, pixels: Path
) -> Iterable[tuple[int, list[Problem]]]:
    for rows in chunks:
        yield len(rows), fill_chunk([items[row] for row in rows], rows, rule, pixels)


def _in_processes(
    items: Sequence[Item],
    chunks: Sequence[list[int]],
    rule: DecodeRule,
    pixels: Path,
    workers: int,
) -> Iterable[tuple[int, list[Problem]]]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin_worker) as pool:
        try:
            counts = {
                pool.submit(fill_chunk, [items[row] for row in rows], rows, rule, pixels): len(rows)
                for rows in chunks
            }
            for future in as_completed(counts):
                yield counts[future], future.result()
        finally:
            # After an interrupt nobody wants the chunks that have not begun.
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leave what a terminal sends to the parent, and do not outlive it, which may be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def fill_chunk(
    items: Sequence[Item], rows: Sequence[int], rule: DecodeRule, pixels: Path
) -> list[Problem]:
    """Decode each item into its row, and return (row, reason) of those that cannot be decoded."""
    target = np.lib.format.open_memmap(pixels, mode="r+")
    problems = []
    with ExitStack() as stack:
        files: dict[Path, Any] = {}
        for item, row in zip(items, rows, strict=True):
            try:
                if item.row is None:
                    target[row] = decode(_read_file(item.path), rule)
                else:
                    target[row] = from_array(read_row(item.path, item.row, files, stack), rule)
            except ImageError as error:
                problems.append((row, str(error)))
    return problems


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error


def read_row(path: Path, row: int, files: dict[Path, Any], stack: ExitStack) -> Pixels:
    """Read one row of an HDF5 file, uint8 (H, W, 3).

    `files` keeps what is open, since opening takes longer than a row; `stack` closes it.
    """
    import h5py

    try:
        if path not in files:
            files[path] = stack.enter_context(h5py.File(path, "r"))[_HDF5_PIXELS]
        pixels: Pixels = files[path][row]
    except (OSError, KeyError, ValueError, IndexError) as error:
        # h5py's own text names the path of this machine.
        reason = f"row {row} of {path.name} cannot be read ({type(error).__name__})"
        raise ImageError(reason) from error
    return pixels


def _require_h5py() -> None:
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise DataError(
            "HDF5 files need h5py, which is not installed: pip install 'histo-mlflow[hdf5]'"
        ) from error


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
