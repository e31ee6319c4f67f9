"""From what a user names to a list of images: folders, tables, Kaggle sets, zips, image files.

Listing opens no image. What cannot be used is either no image at all and left out, with a word, or
an `Item` with a `problem`, which counts as a bad image.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from histo_mlflow.errors import DataError, ImageError
from histo_mlflow.inference._input_folder import file_item, folder_items
from histo_mlflow.inference._input_table import (
    SUBMISSION,
    TABLE_SUFFIXES,
    is_kaggle_set,
    kaggle_items,
    table_items,
)
from histo_mlflow.inference._input_zip import DAMAGE, open_zip, zip_items
from histo_mlflow.inference._listing import (
    IMAGE_SUFFIXES,
    MAGIC_BYTES,
    MAX_IMAGE_BYTES,
    Item,
    Listing,
    begins_like_an_image,
    items_digest,
    names_digest,
    suffix_of,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_IMAGE_BYTES",
    "Item",
    "Listing",
    "Reader",
    "is_one_image",
    "items_digest",
    "list_inputs",
    "names_digest",
]


def list_inputs(inputs: Sequence[str]) -> Listing:
    """List everything that is to be predicted.

    | input | ids | order |
    |---|---|---|
    | folder | path relative to it, with suffix | sorted by id |
    | folder with sample_submission.csv and test/ | as in that list | of that list |
    | .csv or .parquet | its column `id`, else `path` as written | of the table |
    | .zip | the members' names | sorted by id |
    | image file | its name | as given |

    Several inputs follow each other as they are given.

    Args:
        inputs: paths.

    Raises:
        DataError: nothing is there, it is nothing of these, it holds no image, or two images have
            the same id.
    """
    if not inputs:
        raise DataError("Expected a folder, a table, a zip or images to predict, got none")
    items: list[Item] = []
    left_out: list[tuple[str, str]] = []
    notes: list[str] = []
    kinds = []
    for one in inputs:
        found = _listed(one)
        items += found.items
        left_out += found.left_out
        notes += found.notes
        kinds.append(found.kind)
    kind = kinds[0] if len(kinds) == 1 else "several inputs"
    listing = Listing(tuple(items), kind, tuple(left_out), tuple(notes))
    if not items:
        told = "".join(f"; {line}" for line in listing.told_left_out())
        raise DataError(f"Expected JPEG, PNG or TIFF images in {', '.join(inputs)}, got none{told}")
    _refuse_equal_ids(items)
    return listing


def is_one_image(inputs: Sequence[str]) -> bool:
    """Whether the inputs are a single image file."""
    return len(inputs) == 1 and Path(inputs[0]).is_file() and _kind(Path(inputs[0])) == "image"


def _listed(given: str) -> Listing:
    if given == "-":
        raise DataError("Expected files or folders, got '-': images are not read from stdin")
    path = Path(given)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a path, got {given!r}: {error}") from error
    if is_folder and is_kaggle_set(path):
        items, left_out = kaggle_items(path)
        note = f"{path} is a Kaggle set: ids and order are those of its {SUBMISSION}"
        return Listing(tuple(items), "Kaggle set", tuple(left_out), (note,))
    if is_folder:
        items, left_out = folder_items(path)
        return Listing(tuple(items), "folder", tuple(left_out))
    if not is_file:
        hint = " (only local files are read)" if "://" in given else ""
        raise DataError(f"Expected a file or a folder, got {given!r}, which is not there{hint}")
    kind = _kind(path)
    if kind == "zip":
        items, left_out = zip_items(path)
        return Listing(tuple(items), kind, tuple(left_out))
    if kind == "table":
        items, notes = table_items(path)
        return Listing(tuple(items), kind, (), tuple(notes))
    if kind == "image":
        return Listing((file_item(path),), kind)
    raise DataError(
        f"Expected a folder, a .csv or .parquet table, a .zip, or a JPEG, PNG or TIFF image, got "
        f"{given!r}"
    )


def _kind(path: Path) -> str | None:
    suffix = suffix_of(path.name)
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix == ".zip":
        return "zip"
    if suffix in TABLE_SUFFIXES:
        return "table"
    try:
        with path.open("rb") as file:
            head = file.read(MAGIC_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    return "image" if begins_like_an_image(head) else None


def _refuse_equal_ids(items: Sequence[Item]) -> None:
    first: dict[str, int] = {}
    again = [
        (first[item.id], position)
        for position, item in enumerate(items)
        if first.setdefault(item.id, position) != position
    ]
    if not again:
        return
    one, other = again[0]
    more = f" ({len(again) - 1:,} more such)" if len(again) > 1 else ""
    raise DataError(
        f"Expected every image to have an id of its own, got {items[one].id!r} twice: image "
        f"{one + 1:,} is {items[one].where}, image {other + 1:,} is {items[other].where}{more}; "
        "predict them apart, or give a table with the columns path and id"
    )


class Reader:
    """Reads the bytes of items, from several threads if need be; zips stay open while it is.

    Attributes:
        unreachable: ids that the system would not let us read, which may come right by itself;
            damaged ones are not among them.
    """

    def __init__(self) -> None:
        self.unreachable: set[str] = set()
        self._zips: dict[str, zipfile.ZipFile] = {}
        self._lock = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def read(self, item: Item) -> bytes:
        """The whole file.

        Raises:
            ImageError: why not, without the path.
        """
        if item.problem is not None:
            raise ImageError(item.problem)
        if item.size > MAX_IMAGE_BYTES:
            raise ImageError(
                f"too large: {item.size:,} bytes, at most {MAX_IMAGE_BYTES:,} are read"
            )
        try:
            data = self._member(item) if item.member is not None else self._file(item)
        except ImageError:
            raise
        except (*DAMAGE, KeyError) as error:
            raise ImageError(f"damaged in its zip ({error})") from error
        except (OSError, DataError) as error:
            self.unreachable.add(item.id)
            why = getattr(error, "strerror", None) or error
            raise ImageError(f"cannot be read ({why})") from error
        if len(data) != item.size:
            raise ImageError(
                f"has another length than when it was listed: {item.size:,} bytes then, "
                f"{len(data):,} now"
            )
        return data

    def _file(self, item: Item) -> bytes:
        with Path(item.path).open("rb") as file:
            return file.read(item.size + 1)

    def _member(self, item: Item) -> bytes:
        assert item.member is not None  # noqa: S101 -- the caller looked
        # Opening and closing a member count its users, which is not safe between threads.
        with self._lock:
            if item.path not in self._zips:
                self._zips[item.path] = self._open.enter_context(open_zip(item.path))
            member = self._zips[item.path].open(item.member)
        try:
            head = member.read(MAGIC_BYTES)
            if head and not begins_like_an_image(head):
                # A bomb that is no image is not blown up to be told so.
                raise ImageError("not a JPEG, PNG or TIFF")
            return head + member.read(item.size + 1)
        finally:
            with self._lock:
                member.close()
