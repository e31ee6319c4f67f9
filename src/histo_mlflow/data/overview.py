"""What a data set holds, in numbers: classes, groups, sizes, intensities, metadata.

Nothing is judged here; `checks` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.data.manifest import COLUMNS, Manifest

MISSING: Final = "(missing)"
MOST_LEVELS: Final = 30
"""A text column with more different values is no category."""
FEW_VALUES: Final = 8
"""A number column with no more different values is a category."""
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Intensities:
    """How bright the pixels of some images are.

    Attributes:
        counts: int64 (3, 256), pixels of each value, for R, G and B.
        images: that were counted.
    """

    counts: npt.NDArray[np.int64]
    images: int

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Of each channel, float64 (3,), in 0 .. 255."""
        shares = self.counts / self.counts.sum(axis=1, keepdims=True)
        found: npt.NDArray[np.float64] = shares @ np.arange(256.0)
        return found

    @property
    def deviation(self) -> npt.NDArray[np.float64]:
        """Standard deviation of each channel over all pixels, float64 (3,), in 0 .. 255."""
        shares = self.counts / self.counts.sum(axis=1, keepdims=True)
        apart = (np.arange(256.0)[None] - self.mean[:, None]) ** 2
        found: npt.NDArray[np.float64] = np.sqrt((shares * apart).sum(axis=1))
        return found

    def share(self, value: int) -> npt.NDArray[np.float64]:
        """Share of the pixels of each channel that have this value, float64 (3,)."""
        found: npt.NDArray[np.float64] = self.counts[:, value] / self.counts.sum(axis=1)
        return found


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the metadata against the classes.

    Attributes:
        name: as the source calls it.
        kind: "number", "category", or "text" for more than 30 different values.
        missing: images without a value.
        distinct: different values, missing ones not counted.
        by_class: a row a class. Of numbers: n and the 5, 25, 50, 75, 95 % quantiles, NaN where a
            class has no value. Of categories: images of each level, the most frequent first,
            "(missing)" last. Of text: nothing.
        association: how much it goes with the class, in [0, 1]: of categories Cramer's V corrected
            for bias, of numbers the correlation ratio; None where it is undefined.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    by_class: pd.DataFrame
    association: float | None


def class_table(manifest: Manifest) -> pd.DataFrame:
    """A row a class, in class order: images, share, groups, images a group, most of one group.

    A class without images has NaN for the last two.
    """
    table = manifest.table
    images = pd.Series(manifest.class_counts(), dtype="int64")
    sizes = table.groupby(["label", "group"]).size()
    by_class = sizes.groupby(level="label")
    groups = by_class.size().reindex(images.index, fill_value=0)
    return pd.DataFrame(
        {
            "images": images,
            "share": images / len(table),
            "groups": groups,
            "images_per_group": by_class.mean().reindex(images.index),
            "largest_group": by_class.max().reindex(images.index),
        }
    )


def group_sizes(manifest: Manifest) -> pd.Series:
    """Number of groups (values) of each size in images (index, ascending)."""
    return manifest.table["group"].value_counts().value_counts().sort_index()


def mixed_groups(manifest: Manifest) -> int:
    """Groups whose images have different labels."""
    return int((manifest.table.groupby("group")["label"].nunique() > 1).sum())


def file_sizes(manifest: Manifest, scanned: pd.DataFrame) -> pd.DataFrame:
    """Columns width, height (of the files, in pixels) and images, the most frequent size first.

    Args:
        manifest: which files are used, and how many images of each.
        scanned: as `scan` gives it.
    """
    used = manifest.table[["path"]].merge(scanned[["path", "width", "height"]], on="path")
    counts = used.groupby(["width", "height"]).size().rename("images").reset_index()
    return counts.sort_values(
        ["images", "width", "height"], ascending=[False, True, True], ignore_index=True
    )


def intensities(pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> Intensities:
    """Count the pixel values of some images.

    Args:
        pixels: uint8 (n, H, W, 3), RGB; of a memory map only these rows are read.
        rows: which images, at least one.
    """
    counts = np.zeros((3, 256), dtype=np.int64)
    ordered = np.sort(rows)  # as they lie on the disk
    for start in range(0, len(ordered), _AT_ONCE):
        some = np.asarray(pixels[ordered[start : start + _AT_ONCE]]).reshape(-1, 3)
        for channel in range(3):
            counts[channel] += np.bincount(some[:, channel], minlength=256)
    return Intensities(counts, len(rows))


def metadata(manifest: Manifest) -> tuple[Column, ...]:
    """The columns that the source brings beyond what every manifest has, in their order."""
    names = [name for name in manifest.table.columns if name not in COLUMNS]
    return tuple(_column(manifest, str(name)) for name in names)


def _column(manifest: Manifest, name: str) -> Column:
    values, labels = manifest.table[name], manifest.table["label"]
    missing = values.isna() | (values.astype("str").str.strip() == "")
    distinct = int(values[~missing].nunique())
    facts: dict[str, Any] = {"name": name, "missing": int(missing.sum()), "distinct": distinct}
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if is_number and distinct > FEW_VALUES:
        known, of = values[~missing].astype("float64"), labels[~missing]
        by_class = known.groupby(of).quantile(np.array(QUANTILES)).unstack()
        by_class.insert(0, "n", known.groupby(of).size())
        by_class = by_class.reindex(list(manifest.classes))
        by_class["n"] = by_class["n"].fillna(0).astype("int64")
        ratio = _correlation_ratio(known.to_numpy(np.float64), of.to_numpy())
        return Column(kind="number", by_class=by_class, association=ratio, **facts)
    if distinct > MOST_LEVELS:
        return Column(kind="text", by_class=pd.DataFrame(), association=None, **facts)
    levels = _told(values, is_number=is_number).where(~missing, MISSING)
    counts = pd.crosstab(labels, levels).reindex(list(manifest.classes), fill_value=0)
    frequent = counts.sum().sort_values(ascending=False, kind="stable").index
    order = [*(o for o in frequent if o != MISSING), *(o for o in frequent if o == MISSING)]
    known_counts = counts.drop(columns=MISSING, errors="ignore").to_numpy(np.float64)
    strength = _cramers_v(known_counts)
    return Column(kind="category", by_class=counts[order], association=strength, **facts)


def _told(values: pd.Series, *, is_number: bool) -> pd.Series:
    """Levels as text: 1 and not 1.0, which a column of whole numbers with gaps would give."""
    if is_number:
        return values.map(lambda value: f"{value:g}", na_action="ignore").astype("object")
    return values.astype("str").astype("object")


def _cramers_v(counts: npt.NDArray[np.float64]) -> float | None:
    """Cramer's V with the correction of Bergsma, J. Korean Stat. Soc. 42 (2013).

    Args:
        counts: (classes, levels).

    Returns:
        0 for no association, 1 where a level tells the class; None with fewer than two classes or
        levels that have images.
    """
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    n, (r, c) = counts.sum(), counts.shape
    if min(r, c) < 2 or n < 2:
        return None
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / n
    phi2 = ((counts - expected) ** 2 / expected).sum() / n
    corrected = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, np.sqrt(corrected / least))) if least > 0 else None


def _correlation_ratio(values: npt.NDArray[np.floating], labels: npt.NDArray[Any]) -> float | None:
    """Eta: the root of the share of the variance that lies between the classes (Pearson, 1905).

    None with fewer than two classes or without any variance.
    """
    total = ((values - values.mean()) ** 2).sum() if len(values) else 0.0
    groups = pd.Series(values).groupby(labels)
    if total <= 0 or groups.ngroups < 2:
        return None
    between = (groups.size() * (groups.mean() - values.mean()) ** 2).sum()
    return float(np.sqrt(min(1.0, between / total)))
