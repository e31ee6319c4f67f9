"""Images in a folder and all folders below it, each folder read once."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from histo_mlflow.errors import DataError
from histo_mlflow.inference._listing import (
    IMAGE_SUFFIXES,
    MAGIC_BYTES,
    NOT_AN_IMAGE,
    Item,
    begins_like_an_image,
    is_hidden,
    shown,
    suffix_of,
)

Found = tuple[list[Item], list[tuple[str, str]]]


def folder_items(root: Path) -> Found:
    """The images below a folder, sorted by id, and what else lies there.

    An id is the path relative to the folder, with forward slashes and suffix. Hidden names are left
    out without a word. Links to files and folders are followed; a folder that was seen already
    is not looked into again, so that a loop ends.

    Args:
        root: the folder.

    Returns:
        Images, and (where, why) of what was left out.

    Raises:
        DataError: a folder cannot be listed.
    """
    items: list[Item] = []
    left_out: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    # Links wait until all real folders are seen, so that an image has the name of its real place.
    waiting: deque[str] = deque([""])
    links: list[str] = []
    while waiting or links:
        prefix = waiting.popleft() if waiting else links.pop(0)
        folder = root / prefix
        try:
            facts = folder.stat()
            if facts.st_ino and (facts.st_dev, facts.st_ino) in seen:
                left_out.append((shown(prefix), "a link to a folder that was seen already"))
                continue
            seen.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                f"Expected a folder that can be listed, got {shown(str(folder))} "
                f"({error.strerror or error}); make it readable, or take it away"
            ) from error
        for entry in entries:
            if is_hidden(entry.name):
                continue
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir():
                (links if entry.is_symlink() else waiting).append(name)
            else:
                _add(entry, name, items, left_out)
    items.sort(key=lambda item: item.id)
    return items, left_out


def file_item(path: Path, name: str | None = None) -> Item:
    """An image file by its path; what is wrong with it is its `problem`.

    Args:
        path: the file.
        name: its id; None takes the name of the file.
    """
    name = shown(path.name) if name is None else name
    try:
        facts = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return Item(name, str(path), problem=_unreachable(path, error))
    if not path.is_file():
        return Item(name, str(path), problem="a folder or no plain file, an image was expected")
    return Item(name, str(path), None, facts.st_size, facts.st_mtime_ns)


def _add(
    entry: os.DirEntry[str], name: str, items: list[Item], left_out: list[tuple[str, str]]
) -> None:
    suffix = suffix_of(entry.name)
    if suffix and suffix not in IMAGE_SUFFIXES:
        left_out.append((shown(name), NOT_AN_IMAGE))
        return
    if suffix in IMAGE_SUFFIXES and entry.is_symlink() and not entry.is_file():
        items.append(Item(shown(name), entry.path, problem="a link to nothing"))
        return
    if not entry.is_file():
        left_out.append((shown(name), "no plain file"))
        return
    if not suffix and not _sniffed(entry.path):
        left_out.append((shown(name), NOT_AN_IMAGE))
        return
    try:
        facts = entry.stat()
    except OSError as error:
        items.append(Item(shown(name), entry.path, problem=_unreachable(Path(entry.path), error)))
        return
    items.append(Item(shown(name), entry.path, None, facts.st_size, facts.st_mtime_ns))


def _sniffed(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return begins_like_an_image(file.read(MAGIC_BYTES))
    except OSError:
        return True  # whether it is one cannot be told: predicting it will say why


def _unreachable(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to nothing" if path.is_symlink() else "no such file"
    return f"cannot be reached ({getattr(error, 'strerror', None) or error})"
