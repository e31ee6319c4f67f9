"""HAM10000: 10,015 dermatoscopic images of 7,470 lesions in seven classes.

Tschandl, Rosendahl, Kittler: The HAM10000 dataset, a large collection of multi-source dermatoscopic
images of common pigmented skin lesions. Scientific Data 5, 180161 (2018). CC BY-NC-SA 4.0.

1,956 lesions have several images, so a lesion is a group and stays on one side of every split.
"""

from pathlib import Path

import pandas as pd

from histo_mlflow.data.manifest import empty_unlabelled
from histo_mlflow.data.sources._files import by_stem, image_files, look_up, sub_folders
from histo_mlflow.data.sources._listing import Expected, Listing, Source, SourceOptions, not_found
from histo_mlflow.data.sources._tables import no_rows, numbers, read_table

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
IMAGE_FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
METADATA = "HAM10000_metadata.csv"
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
EXPECTED = Expected(
    images=10_015,
    width=600,
    height=450,
    class_counts={
        "akiec": 327,
        "bcc": 514,
        "bkl": 1_099,
        "df": 115,
        "mel": 1_113,
        "nv": 6_705,
        "vasc": 142,
    },
)


def read(root: Path, options: SourceOptions) -> Listing:
    """List HAM10000 in Kaggle's layout; either part alone makes a subset.

    Args:
        root: Folder with the two image folders (any case) and the metadata table.
        options: `metadata_csv` may name another table of the same columns.

    Raises:
        DataError: No image folder, no table, or a table without the needed columns.
    """
    wanted = {name.lower() for name in IMAGE_FOLDERS}
    folders = [name for name in sub_folders(root) if name.lower() in wanted]
    if not folders:
        problem = f"it has neither {IMAGE_FOLDERS[0]} nor {IMAGE_FOLDERS[1]}"
        raise not_found(SOURCE, root, problem)
    table_name = options.metadata_csv or METADATA
    if not (root / table_name).is_file():
        raise not_found(SOURCE, root, f"the table {table_name} is missing")

    table = read_table(root / table_name, COLUMNS)
    files = image_files(root, folders)
    age, not_numbers = numbers(table["age"])
    rows = pd.DataFrame(
        {
            "id": table["image_id"],
            "label": table["dx"],
            "group": table["lesion_id"],
            "given_split": "",
            "path": look_up(table["image_id"], by_stem(files)),
            "row": no_rows(len(table)),
            "dx_type": table["dx_type"],
            "age": age,
            "sex": table["sex"],
            "localization": table["localization"],
        }
    )
    notes = (f"{not_numbers:,} ages are not numbers and count as unknown",) if not_numbers else ()
    return Listing(
        source=SOURCE.name,
        root=root,
        classes=CLASSES,
        group_kind="lesion",
        label_source="metadata",
        expected=EXPECTED,
        rows=rows,
        files=files,
        unlabelled=empty_unlabelled(),
        notes=notes,
    )


SOURCE = Source(
    name="ham10000",
    summary="HAM10000, dermatoscopic images in seven classes; grouped by lesion",
    layout="""\
HAM10000_images_part_1/ISIC_0024306.jpg ...
HAM10000_images_part_2/ISIC_0029306.jpg ...
HAM10000_metadata.csv    lesion_id,image_id,dx,dx_type,age,sex,localization
""",
    how_to_get=(
        "`kaggle datasets download -d kmader/skin-cancer-mnist-ham10000 --unzip`, or Harvard "
        "Dataverse, https://doi.org/10.7910/DVN/DBW86T (CC BY-NC-SA 4.0)."
    ),
    read=read,
)
