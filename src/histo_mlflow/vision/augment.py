"""Batched augmentation on the device, with a draw of its own for every image.

What happens to a sample is a function of (seed, epoch, position): not of its neighbours, the batch
size, the device or the process. All draws of an image come from one row of `uniforms`, and each has
a fixed column, so switching one operation on leaves the draws of the others as they were.

Order: flips and quarter turns (uint8, exact); then rotation, scaling, shift and centre crop as one
bilinear resampling with reflected borders, so no black corners appear; then brightness, contrast
and saturation as one 3 x 3 matrix and an offset per image, hue, and erasing. Values are clamped
and rounded once at the end (and before hue), not after every operation as torchvision does it.
"""

import dataclasses
import difflib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from histo_mlflow.errors import RecipeError
from histo_mlflow.randomness import Stream, uniforms
from histo_mlflow.vision import _colour, _geometry

Floats = npt.NDArray[np.float64]

# On a CPU the float stage works on so many pixels at a time that they stay in the core's cache.
_CPU_PIXELS_AT_ONCE = 16 * 96 * 96


@dataclass(frozen=True)
class Policy:
    """What may happen to an image, and how likely or how strongly.

    hflip_p, vflip_p: probability of each flip.
    quarter_turns: a turn by 0, 90, 180 or 270 degrees, each equally likely.
    rotate_p, rotate_degrees: with this probability a turn by an angle uniform in +-degrees.
    crop_resize_p, crop_fraction: with this probability the centre is cut out, a square of this
        fraction of the side, and enlarged to the whole image (112 of 224 pixels: 0.5).
    scale: range of a factor on the size of what is shown, uniform; (1, 1) is off.
    translate: shift of each axis, uniform in +-translate times the side.
    brightness, contrast, saturation, hue: half-ranges with the meaning of torchvision's
        ColorJitter: the factors are uniform in [1 - b, 1 + b] (never below 0), hue is a shift
        uniform in +-hue turns of the HSV circle. Hue costs more than all the rest together.
    erase_p, erase_area: with this probability a rectangle whose area is uniform in this range of
        fractions and whose aspect is log-uniform in 0.3 to 3.3 gets the image's mean colour.
    """

    hflip_p: float = 0.0
    vflip_p: float = 0.0
    quarter_turns: bool = False
    rotate_degrees: float = 0.0
    rotate_p: float = 1.0
    crop_resize_p: float = 0.0
    crop_fraction: float = 1.0
    scale: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erase_p: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.2)

    def __post_init__(self) -> None:
        limits = {
            **dict.fromkeys(("hflip_p", "vflip_p", "rotate_p", "crop_resize_p", "erase_p"), 1.0),
            **dict.fromkeys(("brightness", "contrast", "saturation"), 1.0),
            **{"rotate_degrees": 180.0, "translate": 1.0, "hue": 0.5},
        }
        for name, most in limits.items():
            if not 0.0 <= getattr(self, name) <= most:
                raise RecipeError(
                    f"{name} of an augmentation must lie in 0 to {most:g}, "
                    f"got {getattr(self, name)}"
                )
        if not 0.0 < self.crop_fraction <= 1.0:
            raise RecipeError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction}")
        if not 0.0 < self.scale[0] <= self.scale[1]:
            raise RecipeError(f"scale must be (least, most) above 0, got {self.scale}")
        if not 0.0 < self.erase_area[0] <= self.erase_area[1] <= 1.0:
            raise RecipeError(f"erase_area must be (least, most) in (0, 1], got {self.erase_area}")

    @property
    def is_random(self) -> bool:
        """Whether anything can happen to an image at all."""
        return self._flips or self._moves or self._colours or self.erase_p > 0

    @property
    def _flips(self) -> bool:
        return self.hflip_p > 0 or self.vflip_p > 0 or self.quarter_turns

    @property
    def _moves(self) -> bool:
        turned = self.rotate_degrees > 0 and self.rotate_p > 0
        cropped = self.crop_resize_p > 0 and self.crop_fraction < 1
        return turned or cropped or self.scale != (1.0, 1.0) or self.translate > 0

    @property
    def _colours(self) -> bool:
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "flips": Policy(hflip_p=0.5, vflip_p=0.5),
    "dihedral": Policy(hflip_p=0.5, quarter_turns=True),
    "histology": Policy(
        hflip_p=0.5, quarter_turns=True, brightness=0.15, contrast=0.15, saturation=0.15
    ),
    "dermoscopy": Policy(
        hflip_p=0.5,
        quarter_turns=True,
        rotate_degrees=45.0,
        scale=(0.85, 1.25),
        translate=0.05,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
    ),
    # The Benign/Malignant notebook: RandomRotation(30), flips 0.2, and 112 of 224 px enlarged.
    "benign_malignant": Policy(
        hflip_p=0.2, vflip_p=0.2, rotate_degrees=30.0, crop_resize_p=0.5, crop_fraction=0.5
    ),
    # The Kaggle notebook's flips; its RandomRotation(90) was meant as quarter turns.
    "pcam_kaggle": Policy(hflip_p=0.5, vflip_p=0.5, quarter_turns=True),
}


class _Draw(IntEnum):
    """The columns of an image's draws. Append only: another order would change every run."""

    HFLIP = 0
    VFLIP = 1
    TURN = 2
    ROTATE = 3
    ANGLE = 4
    CROP = 5
    SCALE = 6
    SHIFT_X = 7
    SHIFT_Y = 8
    BRIGHTNESS = 9
    CONTRAST = 10
    SATURATION = 11
    HUE = 12
    ERASE = 13
    ERASE_AREA = 14
    ERASE_ASPECT = 15
    ERASE_X = 16
    ERASE_Y = 17


def policy(name: str, **overrides: float | bool | tuple[float, float]) -> Policy:
    """Return the policy of this name, with the fields given replaced.

    Raises:
        RecipeError: no policy or field of that name (the message names those there are), or a
            value out of range.
    """
    if name not in POLICIES:
        raise RecipeError(f"no augmentation is called {name!r}{_instead(name, list(POLICIES))}")
    fields = [field.name for field in dataclasses.fields(Policy)]
    for unknown in sorted(overrides.keys() - set(fields)):
        raise RecipeError(f"an augmentation has no field {unknown!r}{_instead(unknown, fields)}")
    # mypy cannot see which field each value belongs to; Policy checks the ranges itself.
    return dataclasses.replace(POLICIES[name], **overrides)  # type: ignore[arg-type]


def _instead(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ";"
    return f"{meant} known are: {', '.join(known)}"


def augment(
    images: Tensor, policy: Policy, seed: int, epoch: int, positions: npt.NDArray[np.int64]
) -> Tensor:
    """Vary a batch of images, each by its own draw.

    Args:
        images: uint8, shape (B, 3, H, W), any device, NCHW or channels_last; not changed.
        policy: what may happen. Quarter turns need H = W.
        seed: the run's seed.
        epoch: the epoch, so that every epoch shows other variants.
        positions: int64, shape (B,), the places of the images in the epoch's order.

    Returns:
        uint8, shape (B, 3, H, W), same device and memory format. With a policy that is not random
        this is `images` itself; an empty batch comes back as it is.

    Raises:
        ValueError: another dtype or shape, or not one position for each image.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"uint8 (B, 3, H, W) was expected, got {images.dtype} {tuple(images.shape)}"
        )
    if positions.shape != (len(images),):
        raise ValueError(f"{len(images)} positions were expected, got shape {positions.shape}")
    if not policy.is_random or not len(images):
        return images
    draws = uniforms(seed, epoch, positions, Stream.AUGMENT, len(_Draw))
    if policy._flips:
        flipped, turned = _flips(policy, draws)
        images = _geometry.dihedral(images, flipped[0], flipped[1], turned)
    if policy._moves or policy._colours:
        images = _resample_and_colour(images, policy, draws)
    if policy.erase_p > 0:
        images = _erase(images, policy, draws)
    return images


def _flips(policy: Policy, draws: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return (hflip, vflip) as bool (2, B) and the number of quarter turns as int64 (B,)."""
    flipped = np.stack(
        [draws[:, _Draw.HFLIP] < policy.hflip_p, draws[:, _Draw.VFLIP] < policy.vflip_p]
    )
    turned = (draws[:, _Draw.TURN] * (4 if policy.quarter_turns else 1)).astype(np.int64)
    return flipped, turned


def _resample_and_colour(images: Tensor, policy: Policy, draws: Floats) -> Tensor:
    """Run the operations that need floats, a cacheful of images at a time on a CPU."""
    height, width = images.shape[2:]
    moves = _moves(policy, draws, height, width) if policy._moves else None
    factors = _factors(policy, draws)
    at_once = len(images)
    if images.device.type == "cpu":
        at_once = max(1, _CPU_PIXELS_AT_ONCE // (height * width))
    varied = torch.empty_like(images)
    for start in range(0, len(images), at_once):
        part = slice(start, start + at_once)
        planar = _geometry.to_planar(images[part])
        if moves is not None:
            planar = _geometry.resample(planar, moves[part])
        if policy._colours:
            planar = _colour.jitter(planar, factors[part])
        _geometry.from_planar(planar, varied[part])
    return varied


def _moves(policy: Policy, draws: Floats, height: int, width: int) -> Floats:
    """Return float64 (B, 4): angle in degrees counter-clockwise, zoom, shift x, shift y in px."""
    rotated = draws[:, _Draw.ROTATE] < policy.rotate_p
    angle = np.where(rotated, (2 * draws[:, _Draw.ANGLE] - 1) * policy.rotate_degrees, 0.0)
    low, high = policy.scale
    cropped = draws[:, _Draw.CROP] < policy.crop_resize_p
    zoom = low + (high - low) * draws[:, _Draw.SCALE]
    zoom = zoom / np.where(cropped, policy.crop_fraction, 1.0)
    shift_x = (2 * draws[:, _Draw.SHIFT_X] - 1) * policy.translate * width
    shift_y = (2 * draws[:, _Draw.SHIFT_Y] - 1) * policy.translate * height
    return np.stack([angle, zoom, shift_x, shift_y], axis=1)


def _factors(policy: Policy, draws: Floats) -> Floats:
    """Return (B, 4): factors of brightness, contrast and saturation; the hue's shift in turns."""
    halves = np.array([policy.brightness, policy.contrast, policy.saturation, policy.hue])
    spread = (2 * draws[:, _Draw.BRIGHTNESS : _Draw.HUE + 1] - 1) * halves
    factors: Floats = spread + np.array([1.0, 1.0, 1.0, 0.0])
    return factors


def _erase(images: Tensor, policy: Policy, draws: Floats) -> Tensor:
    """Paint a rectangle of the mean colour; its size follows torchvision's RandomErasing."""
    chosen = np.flatnonzero(draws[:, _Draw.ERASE] < policy.erase_p)
    if not len(chosen):
        return images
    height, width = images.shape[2:]
    drawn = draws[chosen]
    low, high = policy.erase_area
    area = (low + (high - low) * drawn[:, _Draw.ERASE_AREA]) * height * width
    aspect = np.exp((2 * drawn[:, _Draw.ERASE_ASPECT] - 1) * np.log(1 / 0.3))
    tall = np.clip(np.rint(np.sqrt(area * aspect)), 1, height)
    wide = np.clip(np.rint(np.sqrt(area / aspect)), 1, width)
    top = np.floor(drawn[:, _Draw.ERASE_Y] * (height - tall + 1))
    left = np.floor(drawn[:, _Draw.ERASE_X] * (width - wide + 1))
    boxes = np.stack([top, left, tall, wide], axis=1).astype(np.int64)
    return _colour.paint(images, chosen, boxes)
