"""PatchCamelyon (PCam): 96 px patches of lymph node sections, with and without metastasis.

Veeling, Linmans, Winkens, Cohen, Welling: Rotation Equivariant CNNs for Digital Pathology, MICCAI
2018. A patch is positive when its central 32 x 32 px hold at least one tumour pixel.

It comes in two forms: the Kaggle competition's TIFF files, without PCam's duplicates, and the
original HDF5 files with their own splits. This module reads the first and hands the second over.
"""

from pathlib import Path

import pandas as pd

from histo_mlflow.data.manifest import empty_unlabelled
from histo_mlflow.data.sources import _pcam_hdf5
from histo_mlflow.data.sources._files import by_stem, image_files, look_up
from histo_mlflow.data.sources._listing import Expected, Listing, Source, SourceOptions, not_found
from histo_mlflow.data.sources._tables import no_rows, read_table
from histo_mlflow.errors import DataError

CLASSES = _pcam_hdf5.CLASSES
LABELS = "train_labels.csv"
SUBMISSION = "sample_submission.csv"
SLIDE_MAPS = "patch_id_wsi*.csv"
EXPECTED = Expected(
    images=220_025,
    unlabelled=57_458,
    width=96,
    height=96,
    class_counts={"normal": 130_908, "tumour": 89_117},
)


def read(root: Path, options: SourceOptions) -> Listing:
    """List PCam, whichever of its two forms lies in the folder.

    Raises:
        DataError: Neither form is there, or it is incomplete.
    """
    del options  # PCam needs no words from the recipe
    if _pcam_hdf5.is_there(root):
        return _pcam_hdf5.read(root, SOURCE)
    if not (root / LABELS).is_file():
        raise not_found(SOURCE, root, f"it has neither {LABELS} nor {_pcam_hdf5.EXAMPLE}")
    if not (root / "train").is_dir():
        raise not_found(SOURCE, root, "the folder train is missing")
    return _kaggle(root)


def _kaggle(root: Path) -> Listing:
    has_test = (root / "test").is_dir()
    files = image_files(root, ["train", "test"] if has_test else ["train"])
    in_train = files["path"].str.startswith("train/")
    table = read_table(root / LABELS, ("id", "label"))
    slides, notes = _slides(root, table["id"])
    rows = pd.DataFrame(
        {
            "id": table["id"],
            # Anything but 0 and 1 stays as it is, for the checks to name.
            "label": table["label"].replace({"0": CLASSES[0], "1": CLASSES[1]}),
            "group": table["id"] if slides is None else slides,
            "given_split": "",
            "path": look_up(table["id"], by_stem(files[in_train])),
            "row": no_rows(len(table)),
        }
    )
    if not has_test and (root / SUBMISSION).is_file():
        notes.append(f"{SUBMISSION} is there but the folder test is not: nothing to predict")
    return Listing(
        source=SOURCE.name,
        root=root,
        classes=CLASSES,
        group_kind="image" if slides is None else "slide",
        label_source="metadata",
        expected=EXPECTED,
        rows=rows,
        files=files,
        unlabelled=_unlabelled(root, files[~in_train]) if has_test else empty_unlabelled(),
        notes=tuple(notes),
    )


def _unlabelled(root: Path, files: pd.DataFrame) -> pd.DataFrame:
    """The images to predict, in the order of the sample submission where there is one."""
    paths = by_stem(files)
    if (root / SUBMISSION).is_file():
        ids = read_table(root / SUBMISSION, ("id",))["id"]
    else:
        ids = pd.Series(paths.index.to_numpy(), dtype="str")
    return pd.DataFrame({"id": ids, "path": look_up(ids, paths), "row": no_rows(len(ids))})


def _slides(root: Path, ids: pd.Series) -> tuple[pd.Series | None, list[str]]:
    """The slide of each patch, None without a map; a patch outside the map is its own group."""
    maps = sorted(root.glob(SLIDE_MAPS), key=lambda path: path.stat().st_size)
    if not maps:
        return None, []
    # Two maps went round: a partial one and a full one that contains it.
    path = maps[-1]
    table = read_table(path, ("id", "wsi"))[["id", "wsi"]].drop_duplicates()
    torn = table["id"].duplicated()
    if torn.any():
        first = table.loc[torn, "id"].iloc[0]
        raise DataError(
            f"{path} puts {int(torn.sum()):,} patches on more than one slide, first {first!r}; "
            "a patch has one slide."
        )
    found = ids.map(pd.Series(table["wsi"].to_numpy(), index=table["id"], dtype="str"))
    unknown = found.isna() | (found == "")
    notes = [f"slides are taken from {path.name}, the largest of {len(maps)} maps"] * (
        len(maps) > 1
    )
    if unknown.any():
        notes.append(
            f"{path.name} names no slide for {int(unknown.sum()):,} of {len(ids):,} patches; each "
            "of them is its own group and may lie on a slide of another split"
        )
    return found.where(~unknown, ids).astype("str"), notes


SOURCE = Source(
    name="pcam",
    summary="PatchCamelyon, 96 px lymph node patches, Kaggle files or original HDF5 files",
    layout="""\
Kaggle's form:
  train/<id>.tif ...       test/<id>.tif ...
  train_labels.csv         id,label (0 or 1)
  sample_submission.csv    id,label: the patches of test/ (optional)
  patch_id_wsi_full.csv    id,wsi: the slide of each patch (optional; without it groups are unknown)
or the original form:
  camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5     unpacked from .h5.gz
  camelyonpatch_level_2_split_{train,valid,test}_meta.csv     with the column wsi (optional)
""",
    how_to_get=(
        "`kaggle competitions download -c histopathologic-cancer-detection`, then unzip; the "
        "original release is at https://github.com/basveeling/pcam (CC0)."
    ),
    read=read,
)
