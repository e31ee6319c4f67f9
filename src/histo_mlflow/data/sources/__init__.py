"""Where data sets come from: one file a source, one dictionary that lists them."""

from pathlib import Path

from histo_mlflow.data.manifest import COLUMNS, UNLABELLED_COLUMNS, Manifest
from histo_mlflow.data.sources import demo, folders, ham10000, pcam, spider_skin
from histo_mlflow.data.sources._listing import Listing, Source, SourceOptions, not_found
from histo_mlflow.errors import DataError

__all__ = ["SOURCES", "Listing", "Source", "SourceOptions", "listing", "to_manifest"]

SOURCES: dict[str, Source] = {
    "ham10000": ham10000.SOURCE,
    "pcam": pcam.SOURCE,
    "folders": folders.SOURCE,
    "spider_skin": spider_skin.SOURCE,
    "demo": demo.SOURCE,
}


def listing(source: str, root: Path, options: SourceOptions | None = None) -> Listing:
    """Read a data folder as one of the known sources.

    Each folder is listed once and no image is opened.

    Args:
        source: A key of `SOURCES`.
        root: The data folder (data_dir). The demo makes its images there on first use.
        options: What the recipe says about the source.

    Raises:
        DataError: Unknown source, or files are not where the source expects them; the message
            holds the expected layout and how to get the data.
    """
    if source not in SOURCES:
        raise DataError(f"source must be one of {', '.join(SOURCES)}, not {source!r}.")
    known = SOURCES[source]
    if not root.is_dir() and not known.makes_itself:
        what = "it is a file, not a folder" if root.exists() else "there is no such folder"
        raise not_found(known, root, what)
    return known.read(root, options or SourceOptions())


def to_manifest(listing: Listing) -> Manifest:
    """Turn a listing into a manifest, strictly.

    Raises:
        DataError: Anything that makes a manifest impossible: duplicate ids, blanks, labels outside
            the known classes, ids without a file.
    """
    metadata = listing.rows.columns.difference(list(COLUMNS), sort=False)
    return Manifest(
        source=listing.source,
        root=listing.root,
        classes=listing.classes,
        group_kind=listing.group_kind,
        label_source=listing.label_source,
        table=listing.rows.loc[:, [*COLUMNS, *metadata]].reset_index(drop=True),
        unlabelled=listing.unlabelled.loc[:, list(UNLABELLED_COLUMNS)].reset_index(drop=True),
    )
