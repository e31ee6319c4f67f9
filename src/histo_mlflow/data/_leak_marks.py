"""What is kept of each image while look-alikes are sought: below 1 KB, made in one pass.

All three marks bear a dihedral turn well: the low cosine coefficients only change sign and place
under one, the small detail map is turned as an image, and the sums do not change at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from histo_mlflow.data._leak_common import common_share, sampled

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
_T = TypeVar("_T", bound=np.generic)

TURNS = 8
FINE_PX = 48
COARSE_PX = 24
ZOOMS = (1.0, 1.06)
"""At which images are compared, so that a crop by a few per cent is found."""
FLAT_LEVELS = 0.5
"""Grey levels (of 255): an image with less detail shows nothing that could be recognised."""

_BLOCK_BYTES = 8_000_000
_STEP = 4096
_LUMINANCE = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601
_COEFFICIENTS = 8
_BLUR, _LOCAL = 5, 7  # pixels of the small maps
_NOISE = 0.25  # share of an image's own detail below which differences are taken for noise
_INT8 = 24.0  # detail lies within +-5


@dataclass(frozen=True, eq=False)
class Marks:
    """What is known of n images.

    Attributes:
        cosines: float32 (n, 8, 8), low frequencies of the luminance, of length 1 without the mean:
            neither brightness nor contrast changes them.
        coarse: int8 (n, s, s), the detail map that screens candidates, without what is common.
        sums: uint32 (n, 6), sum and sum of squares a channel, modulo 2^32.
        flat: bool (n,), nothing but one tone, or too little to tell it from noise.
        common: zoom -> float32 (s, s), what the fine detail maps of the data set have in common, to
            be taken from each before it is turned.
    """

    cosines: Floats
    coarse: npt.NDArray[np.int8]
    sums: npt.NDArray[np.uint32]
    flat: npt.NDArray[np.bool_]
    common: Mapping[float, Floats]


def make_marks(pixels: Pixels, tick: Callable[[int], object]) -> Marks:
    """Read every image once, some megabytes at a time.

    Args:
        pixels: uint8 (n, px, px, 3); a memory map is never held as a whole.
        tick: told how many images were read.
    """
    n, px = len(pixels), pixels.shape[1]
    fine, coarse = min(FINE_PX, px), min(COARSE_PX, px)
    sums = {zoom: np.zeros((fine, fine), np.float32) for zoom in ZOOMS}
    marks = Marks(
        cosines=np.empty((n, _COEFFICIENTS, _COEFFICIENTS), np.float32),
        coarse=np.empty((n, coarse, coarse), np.int8),
        sums=np.empty((n, 6), np.uint32),
        flat=np.empty(n, np.bool_),
        common=sums,
    )
    in_mean = sampled(n)
    step = max(1, _BLOCK_BYTES // (px * px * 3))
    for start in range(0, n, step):
        block = np.asarray(pixels[start : start + step])
        here = slice(start, start + len(block))
        wide = block.astype(np.uint32)
        marks.sums[here, :3] = wide.sum(axis=(1, 2), dtype=np.uint32)
        marks.sums[here, 3:] = np.einsum("nijc,nijc->nc", wide, wide)
        grey = luminance(block)
        small = reduced(grey, fine)
        marks.cosines[here] = _cosines(small)
        sharp = small - blurred(small, _BLUR)
        marks.flat[here] = np.sqrt(np.mean(sharp**2, axis=(1, 2))) < FLAT_LEVELS
        map_ = detail(reduced(grey, coarse))
        marks.coarse[here] = np.clip(np.rint(map_ * _INT8), -127, 127).astype(np.int8)
        of_mean = grey[in_mean[here] & ~marks.flat[here]]
        for zoom, total in sums.items():
            total += detail(reduced(of_mean, fine, zoom)).sum(axis=0)
        tick(len(block))
    _take_common(marks, sums, np.flatnonzero(in_mean & ~marks.flat))
    return marks


def _take_common(marks: Marks, sums: Mapping[float, Floats], sample: npt.NDArray[np.int64]) -> None:
    """Take what is common from the coarse maps, and make means of the sums of the fine ones."""
    maps = marks.coarse[sample].astype(np.float32)
    share = common_share(maps)
    for total in sums.values():
        total *= np.float32(share / max(1, len(sample)))
    if share > 0:
        common = np.float32(share) * maps.mean(axis=0)
        for start in range(0, len(marks.coarse), _STEP):
            block = marks.coarse[start : start + _STEP]
            block[:] = np.clip(np.rint(block - common), -127, 127).astype(np.int8)


def luminance(pixels: Pixels) -> Floats:
    """Grey levels, float32 (n, px, px), of uint8 (n, px, px, 3)."""
    grey: Floats = pixels.astype(np.float32) @ _LUMINANCE
    return grey


def reduced(grey: Floats, side: int, zoom: float = 1.0) -> Floats:
    """Scale (n, px, px) to (n, side, side); zoom above 1 shows the middle only."""
    px = grey.shape[1]
    centres = (((np.arange(side) + 0.5) / side - 0.5) / zoom + 0.5) * px - 0.5
    reach = max(1.0, px / side / zoom)
    weights = np.maximum(0.0, 1 - np.abs(np.arange(px) - centres[:, None]) / reach)
    matrix = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    small: Floats = matrix @ grey @ matrix.T
    return small


def detail(small: Floats) -> Floats:
    """What remains of (n, s, s) without tone, shading and local contrast: edges and texture.

    Two photographs of different lesions in the same round frame have all the rest in common.
    """
    sharp = small - blurred(small, _BLUR)
    local = np.sqrt(np.maximum(blurred(sharp**2, _LOCAL), 0))
    overall = np.sqrt(np.mean(sharp**2, axis=(1, 2), keepdims=True))
    even: Floats = sharp / (local + np.maximum(_NOISE * overall, FLAT_LEVELS))
    return even


def blurred(maps: Floats, side: int) -> Floats:
    """Mean over a window of side x side pixels, of those that exist at the border."""
    at = np.arange(maps.shape[1])
    near = np.abs(at - at[:, None]) <= side // 2
    matrix = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
    mean: Floats = matrix @ maps @ matrix.T
    return mean


def turned(images: npt.NDArray[_T], turn: int) -> npt.NDArray[_T]:
    """Turn (n, s, s, ...) by `turn % 4` quarters counter-clockwise; from 4 on mirror it too."""
    quarters = np.rot90(images, turn % 4, axes=(1, 2))
    return quarters[:, :, ::-1] if turn >= 4 else quarters


def turned_cosines(cosines: Floats, turn: int) -> Floats:
    """Cosine coefficients of the turned images: transposed, odd ones with the other sign."""
    sign = np.float32(-1) ** np.arange(_COEFFICIENTS, dtype=np.float32)
    quarters = turn % 4
    if quarters == 1:
        cosines = np.swapaxes(cosines * sign, 1, 2)
    elif quarters == 2:
        cosines = cosines * sign[:, None] * sign
    elif quarters == 3:
        cosines = np.swapaxes(cosines * sign[:, None], 1, 2)
    return cosines * sign if turn >= 4 else cosines


def _cosines(small: Floats) -> Floats:
    side = small.shape[1]
    angles = np.pi * (2 * np.arange(side) + 1) * np.arange(_COEFFICIENTS)[:, None] / (2 * side)
    basis = np.cos(angles).astype(np.float32)
    found = basis @ small @ basis.T
    found[:, 0, 0] = 0
    length = np.sqrt(np.sum(found**2, axis=(1, 2), keepdims=True))
    unit: Floats = found / np.maximum(length, 1e-6)
    return unit
