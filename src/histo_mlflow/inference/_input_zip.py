"""Images in a zip, read without unpacking it.

Nothing is ever written, so a member's name is only a name, wherever it points to. What a zip says
of itself is not believed: a member is read up to `MAX_IMAGE_BYTES` and not further.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path

from histo_mlflow.errors import DataError
from histo_mlflow.inference._input_folder import Found
from histo_mlflow.inference._listing import (
    IMAGE_SUFFIXES,
    MAGIC_BYTES,
    MAX_IMAGE_BYTES,
    NOT_AN_IMAGE,
    Item,
    begins_like_an_image,
    is_hidden,
    shown,
    suffix_of,
)

# LZMA may ask for gigabytes of dictionary; archives of images have no use for it.
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    OverflowError,
)
_ENCRYPTED = 0x1


def open_zip(path: Path | str) -> zipfile.ZipFile:
    """Open a zip.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        return zipfile.ZipFile(path)
    except (OSError, *DAMAGE) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"Expected a zip, got {path}, which cannot be read as one: {why}") from (
            error
        )


def zip_items(path: Path) -> Found:
    """The images in a zip, sorted by id, and what else is in it.

    An id is a member's name as the zip gives it.

    Raises:
        DataError: it is no zip.
    """
    items: list[Item] = []
    left_out: list[tuple[str, str]] = []
    with open_zip(path) as opened:
        for info in opened.infolist():
            name = info.filename.encode("utf-8", "backslashreplace").decode()
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            if info.is_dir() or any(map(is_hidden, parts)):
                continue
            suffix = suffix_of(parts[-1]) if parts else ""
            where = f"{shown(str(path))}!{name}"
            if stat.S_ISLNK(info.external_attr >> 16):
                left_out.append((where, "a link in a zip"))
            elif suffix in IMAGE_SUFFIXES or (not suffix and _sniffed(opened, info)):
                size, crc = info.file_size, info.CRC
                items.append(Item(name, str(path), info.filename, size, crc, _problem(info)))
            else:
                left_out.append((where, NOT_AN_IMAGE))
    items.sort(key=lambda item: item.id)
    return items, left_out


def _problem(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & _ENCRYPTED:
        return "encrypted; unpack the zip with its password"
    if info.compress_type not in METHODS:
        return (
            f"compressed by method {info.compress_type}; only {' and '.join(METHODS.values())} "
            "members are read"
        )
    if info.file_size > MAX_IMAGE_BYTES:
        return f"too large: {info.file_size:,} bytes, at most {MAX_IMAGE_BYTES:,} are read"
    return None


def _sniffed(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    if info.flag_bits & _ENCRYPTED or info.compress_type not in METHODS:
        return False
    try:
        with opened.open(info) as member:
            return begins_like_an_image(member.read(MAGIC_BYTES))
    except (OSError, *DAMAGE):
        return False
