"""SPIDER-Skin: H&E patches of skin in 24 tissue classes, described by a metadata table.

Nechaev, Pchelnikov, Ivanova: SPIDER, a comprehensive multi-organ supervised pathology dataset and
baseline models, arXiv:2503.02876 (2025). CC BY-NC 4.0. A labelled patch of 224 px and its 24
neighbours make a region of 1120 px; this source reads the regions as single images.

The set has tissue classes and nothing else: whoever wants another question answered (primary or
metastatic, say) has no labels for it. Stand-in labels are possible, but they are marked, and a
model trained on them can never be promoted.
"""

from pathlib import Path

import pandas as pd

from histo_mlflow.data.manifest import COLUMNS as RESERVED_COLUMNS
from histo_mlflow.data.manifest import empty_unlabelled
from histo_mlflow.data.sources._files import (
    as_relative,
    by_unique_name,
    by_unique_stem,
    image_files,
    look_up,
)
from histo_mlflow.data.sources._listing import Expected, Listing, Source, SourceOptions, not_found
from histo_mlflow.data.sources._tables import no_rows, read_table
from histo_mlflow.errors import DataError

EXPECTED = Expected(images=159_854, width=1_120, height=1_120)


def read(root: Path, options: SourceOptions) -> Listing:
    """List patches that a metadata table describes; the recipe names the table and its columns.

    The image column may hold paths below the data folder, file names, or names without a suffix;
    names that occur twice below the folder match nothing, since they do not say which is meant.

    Args:
        root: Folder with the table and, anywhere below, the images.
        options: `metadata_csv`, `image_column` and `class_column` are needed. Without
            `group_column` each image is its own group.

    Raises:
        DataError: An option is not given, or the table or a column is not there.
    """
    table_name, image, label = _named(options)
    if not (root / table_name).is_file():
        raise not_found(SOURCE, root, f"the table {table_name} is missing")

    columns = [image, label, *([options.group_column] if options.group_column else [])]
    table = read_table(
        root / table_name,
        columns,
        advice="--image-column, --class-column and --group-column name them",
    )
    files = image_files(root, [""], recursive=True)
    images = table[image].map(as_relative).astype("str")
    rows = pd.DataFrame(
        {
            "id": images,
            "label": table[label],
            "group": table[options.group_column] if options.group_column else images,
            "given_split": "",
            "path": _paths(images, files),
            "row": no_rows(len(table)),
        }
    )
    for name in table.columns.difference([*columns, *RESERVED_COLUMNS], sort=False):
        rows[name] = table[name]
    labels = table[label]
    return Listing(
        source=SOURCE.name,
        root=root,
        classes=tuple(sorted(set(labels[labels.str.strip() != ""]))),
        group_kind="slide" if options.group_column else "image",
        label_source="placeholder" if options.placeholder_labels else "metadata",
        expected=EXPECTED,
        rows=rows,
        files=files,
        unlabelled=empty_unlabelled(),
    )


def _named(options: SourceOptions) -> tuple[str, str, str]:
    """The table, its image column and its class column, all of which the recipe must name."""
    given = {
        "metadata_csv": options.metadata_csv,
        "image_column": options.image_column,
        "class_column": options.class_column,
    }
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise DataError(
            f"Source 'spider_skin' needs {', '.join(missing)} in the recipe: the table below "
            "data_dir and its columns, such as metadata_csv: metadata.csv, image_column: patch, "
            "class_column: class, group_column: slide."
        )
    table, image, label = (str(value) for value in given.values())
    return table, image, label


def _paths(images: pd.Series, files: pd.DataFrame) -> pd.Series:
    """Match by whole path, else by file name, else by file name without suffix."""
    found = images.where(images.isin(files["path"]), "")
    names = images.str.rsplit("/", n=1).str[-1]
    found = found.where(found != "", look_up(names, by_unique_name(files)))
    return found.where(found != "", look_up(names, by_unique_stem(files)))


SOURCE = Source(
    name="spider_skin",
    summary="SPIDER-Skin, 1120 px H&E patches and a metadata table named in the recipe",
    layout="""\
<anywhere>/<patch>.jpg|.png|.tif ...    1120 x 1120 px
<metadata_csv>                          a row a patch: image, class and (optional) slide columns,
                                        named by image_column, class_column and group_column
""",
    how_to_get=(
        "accept the conditions at https://huggingface.co/datasets/histai/SPIDER-skin, then "
        "`hf download histai/SPIDER-skin --repo-type dataset`; https://github.com/HistAI/SPIDER "
        "describes how central and context patches make 1120 px regions (CC BY-NC 4.0)."
    ),
    read=read,
)
