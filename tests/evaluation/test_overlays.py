"""Overlays keep the image visible, and grids show the very pixels."""

from pathlib import Path

import matplotlib
import matplotlib.text
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.overlays import gradcam_grid, overlay
from histo_mlflow.evaluation.style import save


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def heat(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def texts(fig: Figure) -> set[str]:
    return {t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text()}


def test_where_the_map_is_0_the_image_stays_as_it_is():
    image, zero = noise(8, 9, 3), np.zeros((8, 9), dtype=np.float32)

    assert np.array_equal(overlay(image, zero), image)


def test_the_stronger_the_map_the_more_of_its_colour():
    image, values = noise(8, 9, 3), heat(8, 9)

    seen = overlay(image, values)

    expected = np.empty_like(image)
    for row in range(8):
        for column in range(9):
            a = 0.55 * float(values[row, column])
            colour = np.array(matplotlib.colormaps["inferno"](float(values[row, column]))[:3]) * 255
            expected[row, column] = np.rint((1 - a) * image[row, column] + a * colour)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, expected)
    strongest = overlay(image, np.ones((8, 9)))
    assert strongest.reshape(-1, 3).std(axis=0).max() > 0  # the image can still be seen


def test_the_grid_holds_each_image_beside_its_overlay(tmp_path: Path):
    images, maps = noise(4, 96, 96, 3), heat(4, 96, 96)

    fig = gradcam_grid(images, maps, [f"nv as mel\n{i}" for i in range(4)], facts="layer4")

    assert {"Grad-CAM", "4 images of 96 x 96 px · layer4", "nv as mel", "3", "0"} <= texts(fig)
    save(fig, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    for image, values in zip(images, maps, strict=True):
        left = image.repeat(2, axis=0).repeat(2, axis=1)
        right = overlay(image, values).repeat(2, axis=0).repeat(2, axis=1)
        pair = np.concatenate([left, np.full((192, 4, 3), 255, np.uint8), right], axis=1)
        rows, columns = np.nonzero((picture == pair[0, 0]).all(axis=2))
        assert any(
            np.array_equal(picture[r : r + 192, c : c + 388], pair)
            for r, c in zip(rows, columns, strict=True)
        )


@pytest.mark.parametrize("n", [1, 2, 7])
def test_no_text_of_the_grid_leaves_the_figure(n: int):
    fig = gradcam_grid(noise(n, 64, 48, 3), heat(n, 64, 48), ["Squamous cell carcinoma " * 5] * n)

    width, height = fig.get_size_inches() * fig.dpi
    for text in fig.findobj(matplotlib.text.Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= width
            assert 0 <= box.y0 < box.y1 <= height


def test_a_map_that_is_0_everywhere_is_drawn():
    zero = np.zeros((1, 16, 16))

    assert gradcam_grid(noise(1, 16, 16, 3), zero, ["nv"]) is not None


@pytest.mark.parametrize(
    ("images", "maps", "titles", "told"),
    [
        (noise(2, 8, 8, 3).astype(float), heat(2, 8, 8), ["a", "b"], r"uint8 .* got float64"),
        (noise(2, 3, 8, 8), heat(2, 8, 8), ["a", "b"], r"got uint8 \(2, 3, 8, 8\)"),
        (noise(0, 8, 8, 3), heat(0, 8, 8), [], "at least one"),
        (noise(2, 8, 8, 3), heat(2, 8, 9), ["a", "b"], r"maps of shape \(2, 8, 8\)"),
        (noise(2, 8, 8, 3), noise(2, 8, 8), ["a", "b"], "got uint8"),
        (noise(2, 8, 8, 3), heat(2, 8, 8) * 2, ["a", "b"], "maps from 0 to 1"),
        (noise(2, 8, 8, 3), heat(2, 8, 8) * np.nan, ["a", "b"], "without NaN"),
        (noise(2, 8, 8, 3), heat(2, 8, 8), ["a"], "Expected 2 titles, one an image, got 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(images, maps, titles, told):
    with pytest.raises(DataError, match=told):
        gradcam_grid(images, maps, titles)
