"""Maps over images: which places spoke for a class. Drawn from arrays alone."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.grids import Pixels, draw, tile

Map = npt.NDArray[np.floating]

COLOURS = "inferno"
"""Of matplotlib: lightness rises evenly, so it also reads without colour."""
_OPACITY = 0.55  # where the map is 1; the image stays visible below
_SEAM = 4  # figure pixels between an image and its overlay
_PAIRS = 3  # a row, at most
_FOOT = 50


def overlay(image: Pixels, heat: Map) -> Pixels:
    """Lay a map over an image: the stronger, the brighter and the less see-through.

    Args:
        image: uint8 (H, W, 3), RGB.
        heat: (H, W), from 0 (the image as it is) to 1.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: other types or shapes, or a map with values outside 0 to 1 or NaN.
    """
    _check(image[None], heat[None])
    opacity = _OPACITY * heat[..., None].astype(np.float64)
    colours = matplotlib.colormaps[COLOURS](heat.astype(np.float64))[..., :3] * 255
    blended: Pixels = np.rint((1 - opacity) * image + opacity * colours).astype(np.uint8)
    return blended


def gradcam_grid(
    images: Pixels,
    maps: Map,
    titles: Sequence[str],
    *,
    heading: str = "Grad-CAM",
    facts: str = "",
) -> Figure:
    """Draw pairs in rows: the image, and beside it the image below its map.

    Args:
        images: uint8 (n, H, W, 3), RGB; large ones are drawn reduced.
        maps: (n, H, W) from 0 to 1, such as Grad-CAM gives.
        titles: n texts of one or more lines, above each pair.
        heading: the figure's title.
        facts: said below the heading, after the number and size of the images.

    Raises:
        DataError: see `overlay`; no image, or another number of titles.
    """
    _check(images, maps)
    if len(titles) != len(images):
        raise DataError(f"Expected {len(images)} titles, one an image, got {len(titles)}.")
    width = min(_PAIRS, len(images))
    cells = []
    for i, (image, heat) in enumerate(zip(images, maps, strict=True)):
        left, right = tile(image), tile(overlay(image, heat))
        seam = np.full((len(left), _SEAM, 3), 255, dtype=np.uint8)
        cells.append((divmod(i, width), np.concatenate([left, seam, right], axis=1), titles[i]))
    size = f"{images.shape[2]} x {images.shape[1]} px"
    said = [f"{style.count(len(images), 'image')} of {size}", facts]
    fig = draw(cells, heading, " · ".join(filter(None, said)), foot=_FOOT)
    _scale(fig)
    return fig


def _scale(fig: Figure) -> None:
    """Draw what the colours mean into the foot of the figure."""
    wide, high = fig.get_size_inches() * style.DPI
    with style.styled():
        axes = fig.add_axes((16 / wide, 34 / high, 192 / wide, 12 / high))
        axes.imshow(np.linspace(0, 1, 192)[None], cmap=COLOURS, aspect="auto", extent=(0, 1, 0, 1))
        axes.set_axis_off()
        for at, text in ((0.0, "0"), (1.0, "1: the strongest place of each image")):
            axes.annotate(text, (at, 0), (0, -4), textcoords="offset points", va="top", size=7.5)


def _check(images: Pixels, maps: Map) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise DataError(
            f"Expected uint8 images of shape (n, H, W, 3), at least one, got {images.dtype} "
            f"{images.shape}."
        )
    if maps.shape != images.shape[:3] or not np.issubdtype(maps.dtype, np.floating):
        raise DataError(
            f"Expected maps of shape {images.shape[:3]}, one value a pixel, got {maps.dtype} "
            f"{maps.shape}."
        )
    if not (maps.min() >= 0 and maps.max() <= 1):
        raise DataError(
            f"Expected maps from 0 to 1 without NaN, got {maps.min():.4g} to {maps.max():.4g}."
        )
