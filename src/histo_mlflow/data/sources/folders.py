"""Any data set that is a folder a class, optionally below train / val / test.

The Benign/Malignant set of Kaggle is one. The same file name may stand in several classes, so an
image's id is its whole path below the data folder, `Benign/100.jpg`.
"""

from pathlib import Path

import pandas as pd

from histo_mlflow.data.manifest import empty_unlabelled
from histo_mlflow.data.sources._files import image_files, sub_folders
from histo_mlflow.data.sources._listing import Expected, Listing, Source, SourceOptions, not_found
from histo_mlflow.data.sources._tables import no_rows

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read(root: Path, options: SourceOptions) -> Listing:
    """List a folder a class; where a folder called train exists, its like are given splits.

    Images may lie deeper below a class folder. An image outside every class folder belongs to no
    row, which the checks report.

    Raises:
        DataError: Fewer than two class folders, split folders mixed with others, or class names
            that differ in case only.
    """
    del options  # the folders say it all
    names = sub_folders(root)
    splits = [name for name in names if name.lower() in SPLIT_NAMES]
    has_splits = any(SPLIT_NAMES[name.lower()] == "train" for name in splits)
    if has_splits and len(splits) < len(names):
        others = ", ".join(name for name in names if name not in splits)
        problem = f"beside {', '.join(splits)} it holds {others}, which is no split"
        raise not_found(SOURCE, root, problem)
    class_folders = (
        [f"{split}/{name}" for split in splits for name in sub_folders(root / split)]
        if has_splits
        else names
    )
    classes = tuple(sorted({folder.rsplit("/", 1)[-1] for folder in class_folders}))
    _refuse_bad_classes(root, classes)

    inside = image_files(root, class_folders, recursive=True)
    outside = image_files(root, ["", *splits] if has_splits else [""])
    return Listing(
        source=SOURCE.name,
        root=root,
        classes=classes,
        group_kind="image",
        label_source="folder",
        expected=Expected(mode="RGB"),
        rows=_rows(inside["path"], has_splits),
        files=pd.concat([inside, outside], ignore_index=True).sort_values(
            "path", ignore_index=True
        ),
        unlabelled=empty_unlabelled(),
    )


def _refuse_bad_classes(root: Path, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        found = f"only the folder {classes[0]}" if classes else "no folders"
        raise not_found(SOURCE, root, f"at least two class folders are needed, it has {found}")
    folded: dict[str, str] = {}
    for name in classes:
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            problem = f"the class folders {twin!r} and {name!r} differ only in case; rename one"
            raise not_found(SOURCE, root, problem)


def _rows(paths: pd.Series, has_splits: bool) -> pd.DataFrame:
    parts = paths.str.split("/", n=2 if has_splits else 1, expand=True)
    if paths.empty:
        label, given = paths, paths
    elif has_splits:
        label, given = parts[1], parts[0].str.lower().map(SPLIT_NAMES)
    else:
        label, given = parts[0], pd.Series("", index=paths.index, dtype="str")
    return pd.DataFrame(
        {
            "id": paths,
            "label": label.astype("str"),
            "group": paths,  # nothing is known of what belongs together
            "given_split": given.astype("str"),
            "path": paths,
            "row": no_rows(len(paths)),
        }
    )


SOURCE = Source(
    name="folders",
    summary="a folder a class, optionally below train/val/test (such as Benign/Malignant)",
    layout="""\
<class>/<image>.jpg|.png|.tif ...                  such as Benign/100.jpg and Malignant/100.jpg
or with given splits:
{train,val,test}/<class>/<image>.jpg|.png|.tif ... (valid and validation are read as val)
""",
    how_to_get=(
        "sort your images into a folder a class; Benign/Malignant: `kaggle datasets download -d "
        "fanconic/skin-cancer-malignant-vs-benign --unzip`."
    ),
    read=read,
)
