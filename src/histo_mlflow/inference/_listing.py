"""What is to be predicted, as a list: the words shared by all kinds of input."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
MAX_IMAGE_BYTES = 256 * 2**20
"""Of one encoded image: `vision.decode.MAX_PIXELS` of uncompressed RGB fit in."""
MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How the three formats begin; only a file whose name has no suffix is asked for them here."""
MAGIC_BYTES = 8
NOT_AN_IMAGE = "no JPEG, PNG or TIFF"


@dataclass(frozen=True, slots=True)
class Item:
    """One image that is to be predicted.

    Attributes:
        id: what the answer is found again by; text that can be written as UTF-8.
        path: the file, or the zip that holds it.
        member: its name in the zip, None for a file.
        size: bytes.
        stamp: time of the last change in nanoseconds; of a member its CRC.
        problem: why it cannot even be opened; None for all that can be tried.
    """

    id: str
    path: str
    member: str | None = None
    size: int = 0
    stamp: int = 0
    problem: str | None = None

    @property
    def where(self) -> str:
        """Where it lies, for a person."""
        return shown(self.path if self.member is None else f"{self.path}!{self.member}")


@dataclass(frozen=True)
class Listing:
    """All of an input, in the order of the answer.

    Attributes:
        items: the images; their ids differ.
        kind: "folder", "table", "Kaggle set", "zip", "image" or "several inputs".
        left_out: what lies among the images and is none, as (where, why).
        notes: what was decided, as sentences.
    """

    items: tuple[Item, ...]
    kind: str
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def told_left_out(self) -> list[str]:
        """A sentence for each reason why something was left out."""
        counts = Counter(why for _, why in self.left_out)
        said = []
        for why, n in counts.items():
            first = [where for where, other in self.left_out if other == why][:3]
            more = ", ..." if n > len(first) else ""
            what = "name" if n == 1 else "names"
            said.append(f"left out {n:,} {what} ({why}): {', '.join(first)}{more}")
        return said


def shown(path: str) -> str:
    """A path that can be written, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Whether a part of a path is hidden, or what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def suffix_of(name: str) -> str:
    """ ".jpg" of "a.JPG"."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 -- of a million names


def begins_like_an_image(head: bytes) -> bool:
    """Whether the first bytes are those of a JPEG, PNG or TIFF."""
    return head.startswith(MAGICS)


def items_digest(items: Iterable[Item], without: Sequence[int] = ()) -> str:
    """SHA-256 of ids, sizes and times, in order.

    Args:
        items: the images.
        without: positions of which only the ids count.
    """
    blank = frozenset(without)
    digest = hashlib.sha256()
    for position, item in enumerate(items):
        facts = "" if position in blank else f"{item.size}\0{item.stamp}\0{item.problem or ''}"
        digest.update(f"{item.id}\0{facts}\n".encode())
    return digest.hexdigest()


def names_digest(items: Iterable[Item]) -> str:
    """SHA-256 of ids and sizes, in order; copies of a data set on other machines have the same."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.id}\0{item.size}\n".encode())
    return digest.hexdigest()
