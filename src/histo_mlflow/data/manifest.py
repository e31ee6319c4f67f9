"""The manifest: which images a run may use, what each shows, and which belong together.

It is the one form all data sets take. Whatever stands upstream (folder layouts, metadata tables)
ends here, and whatever stands downstream (splits, pixels, predictions) starts here. A `Manifest`
that exists is consistent: the constructor refuses anything else.

On disk it is a CSV that a person can open, with the few facts that are not rows as JSON beside it.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.data._manifest_rules import (
    COLUMNS,
    UNLABELLED_COLUMNS,
    class_problems,
    table_problems,
    unlabelled_problems,
)
from histo_mlflow.errors import DataError

__all__ = [
    "COLUMNS",
    "UNLABELLED_COLUMNS",
    "LabelSource",
    "Manifest",
    "empty_unlabelled",
    "facts_path",
    "load",
    "save",
]

LabelSource = Literal["metadata", "folder", "placeholder", "synthetic"]
"""Where labels come from. Models trained on the last two can never be promoted."""

FORMAT_VERSION = 1

_FACTS = (
    "source", "root", "classes", "group_kind", "label_source",
    "images", "unlabelled", "metadata_kinds",
)  # fmt: skip


def empty_unlabelled() -> pd.DataFrame:
    """A table with the columns of `Manifest.unlabelled` and no rows."""
    text = pd.Series([], dtype="str")
    return pd.DataFrame({"id": text, "path": text, "row": pd.Series([], dtype="Int64")})


@dataclass(frozen=True, eq=False)
class Manifest:
    """Images with a label, a group and a place on disk, and images that wait for a prediction.

    Attributes:
        source: Name of the source, such as "ham10000".
        root: Folder that the paths are relative to.
        classes: Class names; a label's index in it is the training target.
        group_kind: What a group is: "lesion", "slide", or "image" where nothing better is known.
        label_source: Where the labels come from.
        table: One row an image, columns `COLUMNS` and then the source's own metadata. `path` is
            relative to `root` with forward slashes; `row` is the index into an HDF5 dataset, NA
            for image files; `given_split` is "" where the source names no split.
        unlabelled: Images without a label, columns `UNLABELLED_COLUMNS`; may be empty.

    Raises:
        DataError: Duplicate ids, blanks, unknown labels or splits, missing columns, no images;
            all problems in one message.
    """

    source: str
    root: Path
    classes: tuple[str, ...]
    group_kind: str
    label_source: LabelSource
    table: pd.DataFrame
    unlabelled: pd.DataFrame = field(default_factory=empty_unlabelled)

    def __post_init__(self) -> None:
        problems = [
            *class_problems(self.classes),
            *table_problems(self.table, self.classes),
            *unlabelled_problems(self.unlabelled),
        ]
        if self.label_source not in get_args(LabelSource):
            known = ", ".join(get_args(LabelSource))
            problems.append(f"label_source must be one of {known}, not {self.label_source!r}")
        if problems:
            raise DataError(
                f"The images of source {self.source!r} in {self.root} do not make a manifest: "
                + "; ".join(problems)
                + ". Run `histo-mlflow data check` for the whole list."
            )

    def targets(self) -> npt.NDArray[np.int64]:
        """Class indices, int64 of shape (n,), in the order of `table`."""
        return pd.Index(self.classes).get_indexer(pd.Index(self.table["label"])).astype(np.int64)

    def class_counts(self) -> dict[str, int]:
        """Images of each class, in class order; 0 for a class without images."""
        counts = np.bincount(self.targets(), minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


def facts_path(path_csv: Path) -> Path:
    """Where the facts of the manifest in `path_csv` stand: the same name, ending in .json."""
    return path_csv.with_suffix(".json")


def _unlabelled_path(path_csv: Path) -> Path:
    return path_csv.with_name(f"{path_csv.stem}_unlabelled.csv")


def save(manifest: Manifest, path_csv: Path) -> None:
    """Write the manifest as `path_csv`, its facts as JSON beside it.

    Unlabelled images, where there are any, go to `<name>_unlabelled.csv`. The JSON is written last
    and each file is put in place whole, so that a reader never meets half a manifest.

    Args:
        manifest: What to write.
        path_csv: Must end in .csv; its folder is made.

    Raises:
        DataError: `path_csv` does not end in .csv.
    """
    if path_csv.suffix != ".csv":
        raise DataError(f"A manifest is saved as a .csv file; got {path_csv}.")
    path_csv.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "format_version": FORMAT_VERSION,
        "source": manifest.source,
        "root": str(manifest.root),
        "classes": list(manifest.classes),
        "class_counts": manifest.class_counts(),
        "group_kind": manifest.group_kind,
        "groups": int(manifest.table["group"].nunique()),
        "label_source": manifest.label_source,
        "images": len(manifest.table),
        "unlabelled": len(manifest.unlabelled),
        "metadata_kinds": _metadata_kinds(manifest.table),
    }
    _put(path_csv, manifest.table.to_csv(index=False, lineterminator="\n"))
    if len(manifest.unlabelled):
        _put(
            _unlabelled_path(path_csv),
            manifest.unlabelled.to_csv(index=False, lineterminator="\n"),
        )
    _put(facts_path(path_csv), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def load(path_csv: Path) -> Manifest:
    """Read what `save` wrote; the manifest comes back equal, column types included.

    Raises:
        DataError: A file is missing, of another format version, or does not hold what its facts
            say.
    """
    facts = _read_facts(facts_path(path_csv))
    table = _read_table(path_csv, facts["metadata_kinds"], facts["images"])
    unlabelled = (
        _read_table(_unlabelled_path(path_csv), {}, facts["unlabelled"])
        if facts["unlabelled"]
        else empty_unlabelled()
    )
    return Manifest(
        source=facts["source"],
        root=Path(facts["root"]),
        classes=tuple(facts["classes"]),
        group_kind=facts["group_kind"],
        label_source=facts["label_source"],
        table=table,
        unlabelled=unlabelled,
    )


def _metadata_kinds(table: pd.DataFrame) -> dict[str, str]:
    """How to read each metadata column back: CSV alone cannot tell "1" from 1."""
    kinds = {}
    for name in table.columns.difference(list(COLUMNS), sort=False):
        dtype = table[name].dtype
        if pd.api.types.is_bool_dtype(dtype):
            kinds[name] = "bool"
        elif pd.api.types.is_integer_dtype(dtype):
            kinds[name] = "int64"
        elif pd.api.types.is_float_dtype(dtype):
            kinds[name] = "float64"
        else:
            kinds[name] = "str"
    return kinds


def _read_facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"The facts of the manifest are expected at {path}, which does not exist.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"The facts of the manifest in {path} are not JSON: {error}.") from error
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path} should hold a manifest's facts of format version {FORMAT_VERSION}, "
            f"not {version!r}; write the manifest again."
        )
    lacking = [name for name in _FACTS if name not in facts]
    if lacking:
        raise DataError(f"{path} lacks {lacking}; write the manifest again.")
    return dict(facts)


def _read_table(path: Path, metadata_kinds: dict[str, str], expected_rows: int) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"A manifest's table is expected at {path}, which does not exist.")
    # Text first and types after: a class called "NA" or a lesion called "007" must survive.
    table = pd.read_csv(path, dtype="str", keep_default_na=False, na_filter=False)
    if "row" in table.columns:
        table["row"] = pd.to_numeric(table["row"].replace("", None)).astype("Int64")
    for name, kind in metadata_kinds.items():
        if name not in table.columns:
            raise DataError(f"{path} lacks the column {name!r} that its facts name.")
        if kind == "bool":
            table[name] = table[name] == "True"
        elif kind != "str":
            table[name] = pd.to_numeric(table[name].replace("", None)).astype(np.dtype(kind))
    if len(table) != expected_rows:
        raise DataError(
            f"{path} should have {expected_rows:,} rows by its facts, but has {len(table):,}."
        )
    return table


def _put(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
