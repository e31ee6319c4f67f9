"""Grids show the very pixels they are given."""

from itertools import pairwise
from pathlib import Path

import matplotlib.text
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.grids import augmented_grid, sample_grid
from histo_mlflow.evaluation.plots import save


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def rendered(fig: Figure, tmp_path: Path) -> np.ndarray:
    save(fig, tmp_path / "grid.png")
    return np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))


def contains(picture: np.ndarray, tile: np.ndarray) -> bool:
    height, width = tile.shape[:2]
    rows, columns = np.nonzero((picture == tile[0, 0]).all(axis=2))
    return any(
        np.array_equal(picture[r : r + height, c : c + width], tile)
        for r, c in zip(rows, columns, strict=True)
    )


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def texts(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text()]


@pytest.mark.parametrize("px", [48, 96, 150])
def test_every_pixel_of_every_image_is_in_the_picture(px: int, tmp_path: Path) -> None:
    images = noise(9, px, px, 3)
    picture = rendered(sample_grid(images, [f"nv\nimage {i}" for i in range(9)]), tmp_path)
    for image in images:
        assert contains(picture, enlarged(image, max(1, 192 // px)))


def test_large_images_are_reduced_and_keep_their_shape(tmp_path: Path) -> None:
    images = np.full((1, 450, 600, 3), (200, 30, 90), dtype=np.uint8)
    picture = rendered(sample_grid(images, ["mel"]), tmp_path)
    assert (picture == (200, 30, 90)).all(axis=2).sum() == 192 * 144


def test_counts_and_size_are_stated() -> None:
    fig = sample_grid(noise(3, 30, 40, 3), ["a", "b", "c"], heading="Training", facts="seed 1")
    assert {"Training", "3 images of 40 x 30 px · seed 1", "a", "b", "c"} <= set(texts(fig))


def test_a_title_too_long_for_its_image_loses_its_middle_and_overlaps_nothing() -> None:
    fig = sample_grid(noise(6, 96, 96, 3), ["Squamous cell carcinoma in situ (Bowen) " * 2] * 6)
    titles = [t for t in fig.findobj(matplotlib.text.Text) if t.get_text().startswith("Squ")]
    edges = [(t.get_window_extent().x0, t.get_window_extent().x1) for t in titles]
    assert len(titles) == 6
    assert all(end <= start for (_, end), (start, _) in pairwise(edges))
    assert all("…" in t.get_text() for t in titles)


def test_the_augmented_grid_shows_the_original_first_and_every_variant(tmp_path: Path) -> None:
    original, augmented = noise(2, 64, 64, 3), noise(2, 4, 64, 64, 3)[:, ::-1]
    fig = augmented_grid(original, augmented, titles=["nv", "mel"], facts="policy dihedral")
    assert "2 images of 64 x 64 px, 4 variants each · policy dihedral" in texts(fig)
    assert {"nv", "mel", "variant 1", "variant 4"} <= set(texts(fig))
    picture = rendered(fig, tmp_path)
    for row in range(2):
        for tile in (original[row], *augmented[row]):
            assert contains(picture, enlarged(tile, 3))


@pytest.mark.parametrize(
    ("images", "titles", "told"),
    [
        (noise(2, 8, 8, 3).astype(np.float32), ["a", "b"], r"uint8 .* got float32"),
        (noise(2, 3, 8, 8), ["a", "b"], r"got uint8 \(2, 3, 8, 8\)"),
        (noise(0, 8, 8, 3), [], "at least one image"),
        (noise(2, 8, 8, 3), ["a"], "Expected 2 titles, one an image, got 1"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images, titles, told) -> None:
    with pytest.raises(DataError, match=told):
        sample_grid(images, titles)


def test_variants_of_another_size_or_number_are_refused() -> None:
    for variants in (noise(2, 4, 9, 9, 3), noise(3, 4, 8, 8, 3)):
        with pytest.raises(DataError, match="v variants of each original, of its size"):
            augmented_grid(noise(2, 8, 8, 3), variants)
    with pytest.raises(DataError, match="Expected 2 titles"):
        augmented_grid(noise(2, 8, 8, 3), noise(2, 4, 8, 8, 3), titles=["a"])
