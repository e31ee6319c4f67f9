"""Read every file of a data set once: its digest, its size in pixels, whether it decodes whole.

What was read is remembered in the cache folder. A file is read again when its size or its
modification time (to the nanosecond) changed; a change that keeps both is not noticed.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd
from tqdm import tqdm

from histo_mlflow.data._among import among
from histo_mlflow.data.sources._listing import Listing
from histo_mlflow.errors import ImageError
from histo_mlflow.vision.decode import inspect

_LOG = logging.getLogger(__name__)

# Raise it when what `inspect` says of a file changes: old scans are then not found.
_VERSION: Final = 1
_KEY: Final = ["path", "size", "mtime_ns"]
_TYPES: Final = {
    "path": "str",
    "size": "int64",
    "mtime_ns": "int64",
    "sha256": "str",
    "format": "str",
    "mode": "str",
    "width": "int64",
    "height": "int64",
    "constant": "bool",
    "problem": "str",
}
# Files handed to a thread at once: handing over costs as much as hashing a small file.
_AT_ONCE: Final = 32


class FileFacts(NamedTuple):
    """What one file holds; a row of the scan.

    Attributes:
        path: relative to the data folder.
        size: bytes, as listed.
        mtime_ns: modification time, as listed.
        sha256: digest of the bytes, "" if they cannot be read.
        format: JPEG, PNG, TIFF or HDF5; "" if there is a problem.
        mode: Pillow's name of the colour mode, "" if there is a problem.
        width: pixels, 0 if there is a problem.
        height: pixels, 0 if there is a problem.
        constant: all pixels are equal; not looked for in HDF5 files.
        problem: why it cannot be decoded, "" if it can.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    constant: bool = False
    problem: str = ""


def scan(
    listing: Listing, cache_dir: Path, *, workers: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Hash and fully decode every file of a listing that was not read before.

    Problems are facts here, not errors: they stand in the column `problem`. An interrupted scan
    keeps what it has read.

    Args:
        listing: the files to read.
        cache_dir: scans are kept below it, one Parquet file a data folder.
        workers: threads; None for one a core. Pillow and the digest run outside of Python's lock.
        progress: show a bar on stderr while files are read.

    Returns:
        One row a file in the order of `listing.files`, with the columns of `FileFacts`.
    """
    name = hashlib.sha256(f"{_VERSION}\0{listing.root.resolve()}".encode()).hexdigest()[:32]
    cache = cache_dir / "scans" / f"{name}.parquet"
    files = listing.files[_KEY]
    known = _remembered(cache).merge(files, on=_KEY)
    new = files[~among(files["path"], known["path"])]
    if new.empty:
        return _in_order(known, files)

    fresh: list[FileFacts] = []
    try:
        for facts in _read_all(listing.root, new, workers or os.cpu_count() or 1, progress):
            fresh.extend(facts)
    finally:
        found = pd.concat([known, _table(fresh)], ignore_index=True)
        _remember(cache, found)
    return _in_order(found, files)


def _read_all(
    root: Path, files: pd.DataFrame, workers: int, progress: bool
) -> Iterator[list[FileFacts]]:
    listed = [
        (str(path), int(size), int(mtime))
        for path, size, mtime in files.itertuples(index=False, name=None)
    ]
    chunks = [listed[i : i + _AT_ONCE] for i in range(0, len(listed), _AT_ONCE)]

    def read_chunk(chunk: Sequence[tuple[str, int, int]]) -> list[FileFacts]:
        return [_read(root, *file) for file in chunk]

    pool = ThreadPoolExecutor(workers)
    try:
        with tqdm(total=len(listed), unit="file", desc="checking", disable=not progress) as bar:
            for facts in pool.map(read_chunk, chunks):
                yield facts
                bar.update(len(facts))
    finally:
        # An interrupt must not wait for the thousands of files that are still queued.
        pool.shutdown(cancel_futures=True)


def _read(root: Path, path: str, size: int, mtime_ns: int) -> FileFacts:
    """Read one file; whatever is wrong with it becomes its `problem`."""
    facts = FileFacts(path, size, mtime_ns)
    reader: Callable[[Path, FileFacts], FileFacts]
    reader = _read_hdf5 if path.endswith(".h5") else _read_image
    try:
        return reader(root / path, facts)
    except OSError as error:
        return facts._replace(problem=f"cannot be read: {error.strerror or type(error).__name__}")


def _read_image(path: Path, facts: FileFacts) -> FileFacts:
    data = path.read_bytes()
    facts = facts._replace(sha256=hashlib.sha256(data).hexdigest())
    if len(data) != facts.size:
        return facts._replace(
            problem=f"changed while it was read: {facts.size:,} bytes became {len(data):,}"
        )
    try:
        image = inspect(data)
    except ImageError as error:
        return facts._replace(problem=str(error))
    return facts._replace(
        format=image.format,
        mode=image.mode,
        width=image.width,
        height=image.height,
        constant=image.constant,
    )


def _read_hdf5(path: Path, facts: FileFacts) -> FileFacts:
    """Hash the whole file; the pixels are described by the shape of its dataset x."""
    # Only the listing of an HDF5 data set leads here, and it has said so if h5py is missing.
    import h5py

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with h5py.File(path, "r") as file:
        _, height, width, channels = file["x"].shape
    mode = {1: "L", 3: "RGB"}.get(channels, f"{channels} channels")
    return facts._replace(
        sha256=digest, format="HDF5", mode=mode, width=int(width), height=int(height)
    )


def _table(facts: Sequence[FileFacts]) -> pd.DataFrame:
    return pd.DataFrame(facts, columns=list(_TYPES)).astype(_TYPES)


def _in_order(found: pd.DataFrame, files: pd.DataFrame) -> pd.DataFrame:
    return found.set_index("path").loc[files["path"]].reset_index()[list(_TYPES)]


def _remembered(cache: Path) -> pd.DataFrame:
    """Return the last scan; nothing if there is none."""
    if not cache.is_file():
        return _table([])
    try:
        table = pd.read_parquet(cache)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        _LOG.warning("the scan kept in %s is unreadable, all files are read anew: %s", cache, error)
        return _table([])
    if list(table.columns) != list(_TYPES):
        _LOG.warning("the scan kept in %s has other columns, all files are read anew", cache)
        return _table([])
    return table.astype(_TYPES)


def _remember(cache: Path, found: pd.DataFrame) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(f".{cache.name}.{os.getpid()}.partial")
    found.to_parquet(partial, index=False)
    partial.replace(cache)
