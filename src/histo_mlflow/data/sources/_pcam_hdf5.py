"""PCam's original release: HDF5 files of pixels and labels, with splits of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.data.manifest import empty_unlabelled
from histo_mlflow.data.sources._listing import Expected, Listing, Source, not_found
from histo_mlflow.data.sources._tables import numbers, read_table
from histo_mlflow.errors import DataError

CLASSES = ("normal", "tumour")
SPLITS = {"train": "train", "valid": "val", "test": "test"}  # its word -> ours
EXAMPLE = "camelyonpatch_level_2_split_train_x.h5"
EXPECTED = Expected(images=327_680, width=96, height=96)
PATCH_SHAPE = (96, 96, 3)


def _file(root: Path, split: str, what: str) -> Path:
    return root / f"camelyonpatch_level_2_split_{split}_{what}"


def is_there(root: Path) -> bool:
    """Whether any pixel file of the release lies in the folder, packed or not."""
    return any(root.glob("camelyonpatch_level_2_split_*_x.h5*"))


def read(root: Path, source: Source) -> Listing:
    """List the original release; splits whose files are not there are left out.

    Patches are named `<split>-<index>`. Pixels stay in the files: `path` names the HDF5 file and
    `row` the index into its dataset "x".

    Raises:
        DataError: Packed, missing, unreadable or contradictory files, or h5py is not installed.
    """
    packed = sorted(
        path.name
        for path in root.glob("camelyonpatch_level_2_split_*.h5.gz")
        if not path.with_suffix("").is_file()
    )
    if packed:
        raise DataError(
            f"{root} holds packed HDF5 files, which cannot be read in part: {', '.join(packed)}. "
            f"Unpack them first: gunzip {root}/*.h5.gz"
        )
    if not _file(root, "train", "x.h5").is_file():
        raise not_found(source, root, f"{EXAMPLE} is missing")

    present = [split for split in SPLITS if _file(root, split, "x.h5").is_file()]
    parts = [_read_split(root, split, source) for split in present]
    without = [split for split in present if not _file(root, split, "meta.csv").is_file()]
    notes = []
    if without and len(without) < len(present):
        notes.append(
            f"the meta table of {', '.join(without)} is missing, so slides are unknown there and "
            "every patch of the set counts as its own group"
        )
    rows = pd.concat(parts, ignore_index=True)
    if without:
        rows["group"] = rows["id"]
    return Listing(
        source=source.name,
        root=root,
        classes=CLASSES,
        group_kind="image" if without else "slide",
        label_source="metadata",
        expected=EXPECTED,
        rows=rows,
        files=_stat([_file(root, split, "x.h5") for split in present]),
        unlabelled=empty_unlabelled(),
        notes=tuple(notes),
    )


def _read_split(root: Path, split: str, source: Source) -> pd.DataFrame:
    pixels, labels_file = _file(root, split, "x.h5"), _file(root, split, "y.h5")
    if not labels_file.is_file():
        raise not_found(source, root, f"{labels_file.name} is missing")
    shape = _shape(pixels)
    if len(shape) != 4 or shape[1:] != PATCH_SHAPE:
        raise DataError(f"{pixels} should hold x of shape (n, 96, 96, 3), but has {shape}.")
    labels = _labels(labels_file)
    n = shape[0]
    if len(labels) != n:
        raise DataError(
            f"{pixels} has {n:,} patches but {labels_file.name} {len(labels):,} labels."
        )
    ids = pd.Series([f"{split}-{i:06d}" for i in range(n)], dtype="str")
    # Anything but 0 and 1 stays as it is, for the checks to name.
    text = pd.Series(labels).astype("str").replace({"0": CLASSES[0], "1": CLASSES[1]})
    rows = pd.DataFrame(
        {
            "id": ids,
            "label": text,
            "group": ids,
            "given_split": SPLITS[split],
            "path": pixels.name,
            "row": pd.Series(np.arange(n), dtype="Int64"),
        }
    )
    meta = _file(root, split, "meta.csv")
    return _with_meta(rows, meta) if meta.is_file() else rows


def _with_meta(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    meta = read_table(path, ("wsi",))
    if len(meta) != len(rows):
        raise DataError(f"{path} has {len(meta):,} rows for {len(rows):,} patches.")
    rows["group"] = meta["wsi"]
    for name in ("coord_x", "coord_y"):
        if name in meta.columns:
            rows[name] = numbers(meta[name])[0]
    if "tumor_patch" in meta.columns:
        rows["tumor_patch"] = meta["tumor_patch"]
    return rows


def _shape(path: Path) -> tuple[int, ...]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            return tuple(file["x"].shape)
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is not a whole HDF5 file with a dataset x: {error}.") from error


def _labels(path: Path) -> npt.NDArray[np.int64]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file["y"], dtype=np.int64).reshape(-1)
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is not a whole HDF5 file with a dataset y: {error}.") from error


def _h5py() -> Any:  # h5py has no types
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            "PCam's original files need h5py, which is not installed: "
            "pip install 'histo-mlflow[hdf5]'"
        ) from error
    return h5py


def _stat(paths: list[Path]) -> pd.DataFrame:
    facts = [path.stat() for path in paths]
    return pd.DataFrame(
        {
            "path": pd.Series([path.name for path in paths], dtype="str"),
            "size": np.asarray([fact.st_size for fact in facts], dtype=np.int64),
            "mtime_ns": np.asarray([fact.st_mtime_ns for fact in facts], dtype=np.int64),
        }
    )
