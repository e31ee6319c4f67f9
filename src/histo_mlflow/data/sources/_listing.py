"""What a source is, and what it finds: the words shared by all sources.

A `Listing` is testimony, not judgement: it holds what the tables say and what lies on disk with
duplicates, blanks and typing errors kept, so that the checks can name them all at once. Only a
`Manifest` (see `histo_mlflow.data.manifest`) promises consistency.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from histo_mlflow.data.manifest import LabelSource
from histo_mlflow.errors import DataError

DEMO_IMAGES = 1_200
DEMO_SEED = 0


@dataclass(frozen=True)
class Expected:
    """What is known of a published data set; None or empty where nothing is known.

    Attributes:
        images: Labelled images of the whole set.
        unlabelled: Images without a label of the whole set.
        width: Width of the original images in pixels.
        height: Height of the original images in pixels.
        mode: Pillow mode of the original images.
        class_counts: Labelled images of each class of the whole set.
    """

    images: int | None = None
    unlabelled: int | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = "RGB"
    class_counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Listing:
    """What is on disk and in the tables, before anybody judges it.

    Attributes:
        source: Name of the source.
        root: Folder that all paths are relative to.
        classes: Known class names in target order; `rows` may hold others.
        group_kind: What a group is, such as "lesion", "slide" or "image".
        label_source: Where the labels come from.
        expected: What is known of the whole published set.
        rows: One row for each row of the metadata, in its order: `id`, `label`, `group`,
            `given_split`, `path` (relative to `root`, "" when no file has that id), `row` (Int64;
            index into an HDF5 dataset, NA for image files), then metadata columns. Text columns
            hold "" for blanks, never NA.
        files: Every image file found: `path`, `size` (bytes, int64), `mtime_ns` (int64), sorted by
            path.
        unlabelled: Images to predict: `id`, `path` ("" when no file has that id), `row`.
        notes: Sentences on what was decided while listing; the checks show them as warnings.
    """

    source: str
    root: Path
    classes: tuple[str, ...]
    group_kind: str
    label_source: LabelSource
    expected: Expected
    rows: pd.DataFrame
    files: pd.DataFrame
    unlabelled: pd.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceOptions:
    """What a recipe may say about a source; each source uses its own part.

    Attributes:
        metadata_csv: Metadata table, relative to the data folder.
        image_column: Its column of image paths or names.
        class_column: Its column of class names.
        group_column: Its column of slide or patient names.
        placeholder_labels: The labels are stand-ins; what is trained on them proves nothing.
        demo_images: Images to generate for the demo.
        demo_seed: Seed of the demo's images.
    """

    metadata_csv: str | None = None
    image_column: str | None = None
    class_column: str | None = None
    group_column: str | None = None
    placeholder_labels: bool = False
    demo_images: int = DEMO_IMAGES
    demo_seed: int = DEMO_SEED


@dataclass(frozen=True)
class Source:
    """One kind of data set: how it looks on disk and how to read it.

    Attributes:
        name: What recipes call it.
        summary: One line for lists.
        layout: Tree text of the expected files.
        how_to_get: Where the files come from.
        read: Turns a folder into a `Listing`.
        makes_itself: The source generates its files, so an absent folder is no mistake.
    """

    name: str
    summary: str
    layout: str
    how_to_get: str
    read: Callable[[Path, SourceOptions], Listing]
    makes_itself: bool = False


def not_found(source: Source, root: Path, problem: str) -> DataError:
    """The error for data that is not there: what is wrong, what is expected, how to get it.

    Args:
        source: The source that looked.
        root: The folder it looked in.
        problem: A clause such as "HAM10000_metadata.csv is missing".
    """
    return DataError(
        f"Source {source.name!r} cannot use {root}: {problem}.\n"
        f"Expected below data_dir:\n{source.layout.rstrip()}\n"
        f"How to get it: {source.how_to_get}"
    )
