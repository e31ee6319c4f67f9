"""Every image decoded once into one uint8 memory map, which all runs share.

A pack lies in `<cache>/packs/<key>/`: `pixels.npy` (n, px, px, 3), `ids.txt` (one a line, in the
order of the rows) and `pack.json`, written last, whose presence says that the rest is whole. The
key is a digest of the decode rule and of every id with the digest of its file, so another rule or
a changed source makes another pack, and an old one is never mistaken for it.

Builders work in a directory of their own and rename it at the end. Two that build the same pack at
once both do the work; the second to finish throws its copy away.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from histo_mlflow.data import _packing
from histo_mlflow.data._packing import Item, read_row
from histo_mlflow.errors import DataError
from histo_mlflow.vision.decode import DecodeRule

__all__ = ["Item", "Pack", "open_pack", "pack_images", "pack_key", "read_row"]

_FORMAT = 1
_ABANDONED_AFTER_SECONDS = 24 * 3600
_SPARE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Pack:
    """A finished pack: its folder, what it holds, and the ids in the order of its rows."""

    path: Path
    n: int
    image_px: int
    key: str
    ids: tuple[str, ...]

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the memory map, uint8 RGB, shape (n, image_px, image_px, 3), read-only."""
        mapped: npt.NDArray[np.uint8] = np.load(self.path / "pixels.npy", mmap_mode="r")
        return mapped


def pack_key(ids: Sequence[str], digests: Sequence[str], rule: DecodeRule) -> str:
    """Return the SHA-256 of the rule and of all ids and digests in order, as 64 hex digits."""
    facts = {"format": _FORMAT, "rule": rule.to_dict(), "ids": [*ids], "digests": [*digests]}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def pack_images(
    items: Sequence[Item],
    digests: Sequence[str],
    rule: DecodeRule,
    cache_dir: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Pack:
    """Return the pack of these images, building it if it is not there yet.

    Args:
        items: the images, in the order that the rows shall have; ids are unique.
        digests: one for each item, of the content of its file (for a row of an HDF5 file, of that
            file). Nothing is read to check them: a pack that exists is reused in milliseconds.
        rule: how an image becomes pixels.
        cache_dir: where packs are kept; made if missing.
        workers: processes that decode; None is one for each core this process may use. Fewer than
            some thousand images are decoded in this process, which is sooner done.
        progress: show a bar on stderr.

    Raises:
        DataError: no items, ids that repeat, digests that do not match in number, too little free
            space, or images that cannot be decoded (all are tried; the first five are named).
    """
    ids = tuple(item.id for item in items)
    if not items or len(digests) != len(items) or len(set(ids)) != len(ids):
        raise DataError(
            "packing needs at least one image, unique ids and one digest for each: "
            f"got {len(items)} images, {len(set(ids))} different ids, {len(digests)} digests"
        )
    key = pack_key(ids, digests, rule)
    packs = cache_dir / "packs"
    final = packs / key
    if _is_whole(final, key):
        return Pack(final, len(ids), rule.image_px, key, ids)
    packs.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(packs)
    _require_space(packs, len(ids) * rule.image_px**2 * 3)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=packs))
    try:
        _build(building, items, rule, key, workers=workers, progress=progress)
        _publish(building, final, key)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Pack(final, len(ids), rule.image_px, key, ids)


def open_pack(path: Path) -> Pack:
    """Open a finished pack by its folder.

    Raises:
        DataError: the folder holds no pack, or one that is not whole.
    """
    if not _is_whole(path, path.name):
        raise DataError(f"{path} holds no whole pack: delete the folder and pack the images again")
    facts = _facts(path)
    ids = tuple(json.loads(line) for line in (path / "ids.txt").read_text("utf-8").splitlines())
    return Pack(path, facts["shape"][0], facts["shape"][1], facts["key"], ids)


def _build(
    folder: Path,
    items: Sequence[Item],
    rule: DecodeRule,
    key: str,
    *,
    workers: int | None,
    progress: bool,
) -> None:
    shape = (len(items), rule.image_px, rule.image_px, 3)
    pixels = folder / "pixels.npy"
    np.lib.format.open_memmap(pixels, mode="w+", dtype=np.uint8, shape=shape).flush()
    _reserve(pixels)
    problems = _packing.fill(items, rule, pixels, workers=workers, progress=progress)
    if problems:
        first = "; ".join(f"{items[row].id}: {reason}" for row, reason in problems[:5])
        more = f"; and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise DataError(
            f"{len(problems):,} of {len(items):,} images cannot be read ({first}{more}): "
            "replace or leave them out; `histo-mlflow data check` lists all"
        )
    # An id may hold anything, a line break too: JSON keeps each on one line.
    (folder / "ids.txt").write_text("".join(f"{json.dumps(item.id)}\n" for item in items), "utf-8")
    for name in ("pixels.npy", "ids.txt"):
        _sync(folder / name)
    facts = {
        "format": _FORMAT,
        "key": key,
        "shape": shape,
        "rule": rule.to_dict(),
        "bytes": pixels.stat().st_size,
        "header_sha256": _header_digest(pixels),
    }
    marker = folder / "pack.json"
    marker.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    _sync(marker)


def _publish(building: Path, final: Path, key: str) -> None:
    """Rename the finished folder into place, unless somebody was faster."""
    for _ in range(5):
        try:
            building.replace(final)
        except OSError:
            if _is_whole(final, key):
                return
            if not final.exists():
                raise
            # What lies there is not whole: move it away in one step and try again.
            aside = Path(tempfile.mkdtemp(prefix=".building-", dir=final.parent))
            try:
                final.replace(aside / "damaged")
            except FileNotFoundError:
                continue
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        else:
            return
    raise DataError(f"{final} cannot be put in place: delete the folder and try again")


def _facts(folder: Path) -> dict[str, Any]:
    """Return what pack.json says, or an empty dict where there is none that can be read."""
    try:
        facts = json.loads((folder / "pack.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_whole(folder: Path, key: str) -> bool:
    """Whether the marker is there, is about this key, and the pixels have the size it states."""
    facts = _facts(folder)
    pixels = folder / "pixels.npy"
    return (
        facts.get("format") == _FORMAT
        and facts.get("key") == key
        and pixels.is_file()
        and (folder / "ids.txt").is_file()
        and pixels.stat().st_size == facts.get("bytes")
        and _header_digest(pixels) == facts.get("header_sha256")
    )


def _header_digest(pixels: Path) -> str:
    with pixels.open("rb") as file:
        return hashlib.sha256(file.read(128)).hexdigest()


def _reserve(pixels: Path) -> None:
    """Take the space now: a full disk would later end the process with SIGBUS, not an error."""
    if hasattr(os, "posix_fallocate"):
        with pixels.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, pixels.stat().st_size)
            except OSError as error:
                raise DataError(
                    f"{pixels.stat().st_size:,} bytes cannot be reserved in "
                    f"{pixels.parent.parent}: {error.strerror}"
                ) from error


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise DataError(
            f"the packed pixels need {needed:,} bytes in {folder}, which has {free:,} free: "
            "free some space, choose another cache folder, or a smaller image_px"
        )


def _remove_abandoned(packs: Path) -> None:
    """Delete what builders that were killed left behind."""
    for folder in packs.glob(".building-*"):
        try:
            age = time.time() - folder.stat().st_mtime
        except FileNotFoundError:
            continue  # its builder has just finished
        if age > _ABANDONED_AFTER_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())
