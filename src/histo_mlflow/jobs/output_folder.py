"""A folder that a command writes for its user: whole or not at all, and over nothing of theirs."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from histo_mlflow import files
from histo_mlflow.errors import DiskError


def refuse_strangers(folder: Path, mark: str, names: Collection[str]) -> None:
    """Let an earlier output of the same kind be replaced, and nothing else.

    Args:
        folder: where the output is wanted.
        mark: a file that every output of this kind holds.
        names: of all files and folders that one may hold.

    Raises:
        DiskError: there is something else, or a link, or it lies in the folder of a run.
    """
    if folder.is_symlink():
        raise DiskError(f"Expected a folder for the output, got {folder}, which is a link")
    whole = folder.resolve()
    if Path.cwd().is_relative_to(whole):
        raise DiskError(
            f"Expected a folder of its own for the output, got {folder}, where this command runs: "
            "name another with --out"
        )
    if any((above / "run.json").is_file() for above in whole.parents):
        raise DiskError(
            f"Expected a folder of its own for the output, got {folder}, which lies in the folder "
            "of a run: name another with --out"
        )
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if mark not in there or there - set(names):
        raise DiskError(
            f"Expected a free name or the folder of an earlier output, got {folder}, which holds "
            "something else: name another with --out"
        )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the name at the end; after an error it is gone."""
    new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{files.PARTIAL}")
    files.make_folder(new)
    try:
        yield new
        files.sync_tree(new)
        if folder.exists():
            files.remove_folder(folder)
        files.rename_folder(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
