"""A data set in numbers, against counts by hand and independent formulas."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from histo_mlflow.data.manifest import Manifest
from histo_mlflow.data.overview import (
    MISSING,
    class_table,
    file_sizes,
    group_sizes,
    intensities,
    metadata,
    mixed_groups,
)


def manifest(labels, groups=None, classes=("mel", "nv", "df"), **columns):
    n = len(labels)
    table = pd.DataFrame(
        {
            "id": [f"i{i}" for i in range(n)],
            "path": [f"{i}.jpg" for i in range(n)],
            "row": pd.array([None] * n, dtype="Int64"),
            "label": list(labels),
            "group": [f"g{i}" for i in range(n)] if groups is None else list(groups),
            "given_split": [""] * n,
            **columns,
        }
    )
    return Manifest("test", Path("nowhere"), classes, "lesion", "metadata", table)


def test_classes_and_groups_are_counted():
    found = manifest(["mel", "mel", "mel", "nv"], ["a", "a", "b", "b"])
    table = class_table(found)

    assert table.index.tolist() == ["mel", "nv", "df"]
    assert table["images"].tolist() == [3, 1, 0]
    assert table["share"].tolist() == [0.75, 0.25, 0]
    assert table["groups"].tolist() == [2, 1, 0]
    assert table["images_per_group"].tolist()[:2] == [1.5, 1]
    assert table["largest_group"].tolist()[:2] == [2, 1]
    assert table.loc["df", ["images_per_group", "largest_group"]].isna().all()
    assert group_sizes(found).to_dict() == {2: 2}
    assert mixed_groups(found) == 1


def test_sizes_are_those_of_the_files_that_are_used():
    scanned = pd.DataFrame(
        {
            "path": ["0.jpg", "1.jpg", "2.jpg", "stray.jpg"],
            "width": [60, 80, 80, 1],
            "height": [40, 60, 60, 1],
        }
    )
    sizes = file_sizes(manifest(["mel", "nv", "nv"]), scanned)

    assert sizes.to_dict(orient="split")["data"] == [[80, 60, 2], [60, 40, 1]]


def test_intensities_are_those_of_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (150, 6, 5, 3), dtype=np.uint8)
    pixels[:, 0, 0] = (0, 255, 0)
    rows = np.array([149, 3, *range(20, 130)])
    found = intensities(pixels, rows)
    chosen = pixels[rows].astype(np.float64)

    assert found.images == 112
    assert found.counts.sum(axis=1).tolist() == [112 * 30] * 3
    np.testing.assert_allclose(found.mean, chosen.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(found.deviation, chosen.std(axis=(0, 1, 2)))
    np.testing.assert_allclose(found.share(0), (chosen == 0).mean(axis=(0, 1, 2)))


def test_a_category_is_counted_by_class_with_the_missing_ones_last():
    labels = ["mel"] * 4 + ["nv"] * 3
    (column,) = metadata(manifest(labels, sex=["f", "f", "m", "", "", "m", "m"]))

    assert (column.name, column.kind, column.missing, column.distinct) == ("sex", "category", 2, 2)
    assert column.by_class.columns.tolist() == ["m", "f", MISSING]
    assert column.by_class.to_numpy().tolist() == [[1, 2, 1], [2, 0, 1], [0, 0, 0]]


def test_a_number_has_its_quantiles_by_class():
    age = [*np.arange(21.0), np.nan, 7.0]
    (column,) = metadata(manifest(["mel"] * 22 + ["nv"], age=age))

    assert (column.kind, column.missing, column.distinct) == ("number", 1, 21)
    assert column.by_class.loc["mel"].tolist() == [21, 1, 5, 10, 15, 19]
    assert column.by_class.loc["nv"].tolist() == [1, 7, 7, 7, 7, 7]
    assert column.by_class.loc["df", "n"] == 0


def test_a_number_with_few_values_is_a_category_and_free_text_is_neither():
    n = 40
    found = metadata(
        manifest(
            ["mel", "nv"] * 20,
            stage=[1.0, 2.0, np.nan, 1.0] * 10,
            note=[f"text {i}" for i in range(n)],
            flag=[True, False] * 20,
        )
    )

    assert [column.kind for column in found] == ["category", "text", "category"]
    assert found[0].by_class.columns.tolist() == ["1", "2", MISSING]
    assert found[1].association is None
    assert found[2].association == pytest.approx(1, abs=1e-9)


def test_the_association_of_categories_is_cramers_v_without_its_bias():
    rng = np.random.default_rng(1)
    labels = rng.choice(["mel", "nv", "df"], 4_000)
    near = np.where(rng.random(4_000) < 0.6, labels, rng.choice(["mel", "nv", "df"], 4_000))
    tied, free = metadata(manifest(labels, tied=near, free=rng.choice(list("abcdefgh"), 4_000)))

    # with so many images the correction is small
    expected = association(tied.by_class.to_numpy(), method="cramer")
    assert tied.association == pytest.approx(expected, abs=2e-3)
    assert free.association < association(free.by_class.to_numpy(), method="cramer")
    assert free.association < 0.02


def test_the_association_of_numbers_is_the_root_of_the_variance_explained():
    rng = np.random.default_rng(2)
    labels = np.repeat(["mel", "nv", "df"], [30, 50, 20])
    age = rng.normal(50, 10, 100) + np.repeat([0, 5, -8], [30, 50, 20])
    (column,) = metadata(manifest(labels, age=age))

    dummies = pd.get_dummies(pd.Series(labels)).to_numpy(float)
    fitted = dummies @ np.linalg.lstsq(dummies, age, rcond=None)[0]
    assert column.association == pytest.approx(np.sqrt(fitted.var() / age.var()))


def test_what_cannot_go_with_the_class_is_undefined():
    n = 20
    one, empty, flat = metadata(
        manifest(
            ["mel"] * n,
            one=["a"] * n,
            empty=[""] * n,
            flat=np.arange(float(n)),
        )
    )

    assert (one.association, empty.association, flat.association) == (None, None, None)
    assert (empty.missing, empty.distinct) == (n, 0)
