"""Find image files: each folder is read once, and nothing is asked for file by file."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

# Wider than what can be decoded: a stray .webp must be refused by name, not overlooked.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"})


def image_files(root: Path, folders: Iterable[str], *, recursive: bool = False) -> pd.DataFrame:
    """List the image files of some folders below `root`.

    Hidden names are left out: `._x.jpg` is what macOS adds to archives, not an image.

    Args:
        root: Folder that paths are given relative to.
        folders: Folders relative to `root`, with forward slashes; "" is `root` itself.
        recursive: Look into their sub-folders too.

    Returns:
        Columns `path` (relative, forward slashes), `size` (bytes, int64), `mtime_ns` (int64),
        sorted by path.
    """
    found = sorted(
        (path, facts.st_size, facts.st_mtime_ns)
        for folder in folders
        for path, facts in _walk(root, folder, recursive)
    )
    paths, sizes, times = zip(*found, strict=True) if found else ((), (), ())
    return pd.DataFrame(
        {
            "path": pd.Series(paths, dtype="str"),
            "size": np.asarray(sizes, dtype=np.int64),
            "mtime_ns": np.asarray(times, dtype=np.int64),
        }
    )


def _walk(root: Path, folder: str, recursive: bool) -> Iterator[tuple[str, os.stat_result]]:
    prefix = f"{folder}/" if folder else ""
    inner = []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
                if entry.is_file():
                    yield prefix + entry.name, entry.stat()
            elif recursive and entry.is_dir(follow_symlinks=False):
                inner.append(prefix + entry.name)
    for name in inner:
        yield from _walk(root, name, recursive)


def sub_folders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def by_stem(files: pd.DataFrame) -> pd.Series:
    """Paths indexed by file name without suffix.

    Where two files share a stem, the first by path wins and the other stays unclaimed, which the
    checks report as a file that no row names.
    """
    paths = _indexed(files, _names(files).str.rsplit(".", n=1).str[0])
    return paths[~paths.index.duplicated()]


def by_unique_name(files: pd.DataFrame) -> pd.Series:
    """Paths indexed by file name; a name that occurs twice is left out, since it says nothing."""
    paths = _indexed(files, _names(files))
    return paths[~paths.index.duplicated(keep=False)]


def by_unique_stem(files: pd.DataFrame) -> pd.Series:
    """Paths indexed by file name without suffix; stems that occur twice are left out."""
    paths = _indexed(files, _names(files).str.rsplit(".", n=1).str[0])
    return paths[~paths.index.duplicated(keep=False)]


def _names(files: pd.DataFrame) -> pd.Series:
    return files["path"].str.rsplit("/", n=1).str[-1]


def _indexed(files: pd.DataFrame, keys: pd.Series) -> pd.Series:
    return pd.Series(files["path"].to_numpy(), index=pd.Index(keys), dtype="str")


def look_up(keys: pd.Series, paths: pd.Series) -> pd.Series:
    """The path of each key, "" where there is none."""
    # Without any path the lookup is empty, and pandas would not put text into an empty float.
    return keys.map(paths).astype("object").fillna("").astype("str")


def as_relative(path: str) -> str:
    """A path from a table in the form of ours: forward slashes, no leading "./"."""
    return str(PurePosixPath(path.strip().replace("\\", "/"))) if path.strip() else ""
