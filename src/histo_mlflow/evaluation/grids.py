"""Grids of images: what the model is shown.

The pixels of a grid are laid out as one array and drawn once, one image pixel on a whole number of
figure pixels where it fits, so that nothing is blurred and 60 images take no longer than one.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import style
from histo_mlflow.evaluation.style import count

Pixels = npt.NDArray[np.uint8]

_TILE = 192  # figure pixels, the longer side of an image
_GAP = 10
_MARGIN = 16
_HEAD = 92
_LINE = 16
_POINTS = 7.5


def sample_grid(
    images: Pixels,
    titles: Sequence[str],
    *,
    heading: str = "Samples",
    facts: str = "",
    columns: int = 6,
) -> Figure:
    """Draw images in rows with a title of one or more lines above each.

    Args:
        images: uint8 (n, H, W, 3), RGB; large ones are drawn reduced.
        titles: n texts; a line longer than the image is wide loses its middle.
        heading: the figure's title.
        facts: said below the heading, after the number and size of the images.
        columns: images a row, at most.

    Raises:
        DataError: not uint8 NHWC with three channels, no image, or another number of titles.
    """
    _check(images, 4, "images of shape (n, H, W, 3)")
    if len(titles) != len(images):
        raise DataError(f"Expected {len(images)} titles, one an image, got {len(titles)}.")
    width = min(columns, len(images))
    facts = " · ".join(filter(None, [_told(len(images), images), facts]))
    return draw(
        [(divmod(i, width), tile(images[i]), titles[i]) for i in range(len(images))], heading, facts
    )


def augmented_grid(
    original: Pixels,
    augmented: Pixels,
    *,
    titles: Sequence[str] | None = None,
    heading: str = "Augmentation",
    facts: str = "",
) -> Figure:
    """Draw each original at the left and what augmentation makes of it to the right.

    Args:
        original: uint8 (n, H, W, 3), RGB.
        augmented: uint8 (n, v, H, W, 3): v variants of each.
        titles: n texts written above the originals instead of "original".
        heading: the figure's title.
        facts: said below the heading, such as the policy's name.

    Raises:
        DataError: not uint8 with three channels, shapes that do not belong together, no image, or
            another number of titles.
    """
    _check(original, 4, "originals of shape (n, H, W, 3)")
    _check(augmented, 5, "augmented images of shape (n, v, H, W, 3)")
    if len(original) != len(augmented) or original.shape[1:] != augmented.shape[2:]:
        raise DataError(
            "Expected v variants of each original, of its size, "
            f"got originals {original.shape} and variants {augmented.shape}."
        )
    names = ["original"] * len(original) if titles is None else list(titles)
    if len(names) != len(original):
        raise DataError(f"Expected {len(original)} titles, one an original, got {len(names)}.")
    variants = count(augmented.shape[1], "variant")
    facts = " · ".join(filter(None, [f"{_told(len(original), original)}, {variants} each", facts]))
    cells = []
    for row, (image, name) in enumerate(zip(original, names, strict=True)):
        cells.append(((row, 0), tile(image), name))
        for v, variant in enumerate(augmented[row]):
            cells.append(((row, v + 1), tile(variant), f"variant {v + 1}" if row == 0 else ""))
    return draw(cells, heading, facts)


def draw(
    cells: Sequence[tuple[tuple[int, int], Pixels, str]], heading: str, facts: str, *, foot: int = 0
) -> Figure:
    """Draw tiles in rows, each figure pixel one of theirs.

    Args:
        cells: (row, column), tile and title of one or more lines; every tile has the same shape.
        heading: the figure's title.
        facts: said below it.
        foot: figure pixels left blank below the last row.
    """
    height, width = cells[0][1].shape[:2]
    text_lines = max(len(title.splitlines()) for _, _, title in cells)
    band = text_lines * _LINE + 4
    rows = 1 + max(row for (row, _), _, _ in cells)
    columns = 1 + max(column for (_, column), _, _ in cells)
    # wide enough for the heading also above a single image
    least = max(560, style.heading_pixels(heading, facts))
    canvas_width = max(2 * _MARGIN + columns * (width + _GAP) - _GAP, least)
    canvas_height = _HEAD + rows * (band + height + _GAP) + _MARGIN + foot
    canvas = np.full((canvas_height, canvas_width, 3), 255, dtype=np.uint8)
    with style.styled():
        fig = Figure(
            figsize=(canvas_width / style.DPI, canvas_height / style.DPI),
            dpi=style.DPI,
            facecolor="white",
        )
        axes = fig.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        for (row, column), pixels, title in cells:
            top = _HEAD + band + row * (band + height + _GAP)
            left = _MARGIN + column * (width + _GAP)
            canvas[top : top + height, left : left + width] = pixels
            for i, line in enumerate(reversed(title.splitlines())):
                text = style.fitted(line, width, _POINTS)
                axes.text(left, top - 6 - i * _LINE, text, va="baseline", size=_POINTS)
        axes.imshow(canvas, aspect="auto", extent=(0, canvas_width, canvas_height, 0))
        style.heading(fig, heading, facts)
    return fig


def tile(image: Pixels) -> Pixels:
    """Bring the longer side to at most 192 pixels: reduced by a filter, enlarged by repeating."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer > _TILE:
        size = (max(1, round(width * _TILE / longer)), max(1, round(height * _TILE / longer)))
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    factor = _TILE // longer
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _check(images: Pixels, dimensions: int, expected: str) -> None:
    if images.dtype != np.uint8 or images.ndim != dimensions or images.shape[-1] != 3:
        raise DataError(f"Expected uint8 {expected}, got {images.dtype} {images.shape}.")
    if 0 in images.shape:
        raise DataError(f"Expected {expected} with at least one image, got {images.shape}.")


def _told(n: int, images: Pixels) -> str:
    return f"{count(n, 'image')} of {images.shape[-2]} x {images.shape[-3]} px"
