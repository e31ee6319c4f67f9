"""Batched geometry: flips and quarter turns in uint8, everything else as one bilinear resampling.

On a CPU the flips go through NumPy: gathering images is a copy of memory there (1 us an image of
96 px against 16 to 30 with torch), and a transposition channel by channel takes half the time.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Bools = npt.NDArray[np.bool_]


def dihedral(
    images: Tensor, hflip: Bools, vflip: Bools, quarter_turns: npt.NDArray[np.int64]
) -> Tensor:
    """Flip each image left-right, then up-down, then turn it counter-clockwise by quarters.

    Args:
        images: uint8, shape (B, 3, H, W); H = W where any image turns by 90 or 270 degrees.
        hflip: bool, shape (B,).
        vflip: bool, shape (B,).
        quarter_turns: 0 to 3, shape (B,).

    Returns:
        uint8, shape (B, 3, H, W), in the memory format of `images`; the pixels are moved exactly.

    Raises:
        ValueError: a quarter turn of images that are not square.
    """
    # Turning is transposing, then flipping; flips before a transposition change their axis:
    # every one of the eight outcomes is (transpose, flip up-down, flip left-right).
    transpose = quarter_turns % 2 == 1
    upside = np.where(transpose, hflip, vflip) ^ np.isin(quarter_turns, (1, 2))
    mirror = np.where(transpose, vflip, hflip) ^ np.isin(quarter_turns, (2, 3))
    if transpose.any() and images.shape[2] != images.shape[3]:
        raise ValueError(f"quarter turns need square images, got {tuple(images.shape[2:])}")
    code = transpose * 4 + upside * 2 + mirror
    nhwc = images.permute(0, 2, 3, 1)
    in_memory = images.device.type == "cpu" and nhwc.is_contiguous()
    result = torch.empty_like(images)
    for value in np.unique(code):
        chosen = np.flatnonzero(code == value)
        flips = [axis for axis, bit in ((2, 2), (3, 1)) if value & bit]
        if in_memory:
            part = torch.from_numpy(nhwc.numpy()[chosen]).permute(0, 3, 1, 2)
            part = _transposed(part) if value & 4 else part
            part = part.flip(flips) if flips else part
            result.permute(0, 2, 3, 1).numpy()[chosen] = part.permute(0, 2, 3, 1).numpy()
        else:
            index = torch.from_numpy(chosen).to(images.device)
            part = images[index]
            part = part.transpose(2, 3) if value & 4 else part
            result[index] = part.flip(flips) if flips else part
    return result


def _transposed(images: Tensor) -> Tensor:
    """Swap H and W of channels_last images in memory, one channel at a time."""
    source = images.permute(0, 2, 3, 1).numpy()
    turned = np.empty_like(source)
    for channel in range(source.shape[3]):
        turned[..., channel] = source[..., channel].transpose(0, 2, 1)
    return torch.from_numpy(turned).permute(0, 3, 1, 2)


def to_planar(images: Tensor) -> Tensor:
    """Return float32 (B, 3, H, W), contiguous as NCHW, in 0 to 255: a copy."""
    planar = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    return planar.copy_(images)


def from_planar(planar: Tensor, out: Tensor) -> None:
    """Clamp to 0 to 255, round half up, and write into `out`, uint8, any memory format."""
    rounded = planar.clamp_(0.0, 255.0).add_(0.5).to(torch.uint8)
    if out.device.type == "cpu":
        interleaved = out.permute(0, 2, 3, 1).numpy()
        for channel in range(3):
            interleaved[..., channel] = rounded[:, channel].numpy()
    else:
        out.copy_(rounded)


def resample(planar: Tensor, moves: npt.NDArray[np.float64]) -> Tensor:
    """Turn, zoom and shift each image about its centre: bilinear, borders reflected.

    Reflection is about the outer edges of the border pixels. Nothing is filtered before shrinking,
    so a zoom far below 1 would alias; policies stay near 1.

    Args:
        planar: float32, shape (B, 3, H, W).
        moves: shape (B, 4): angle in degrees counter-clockwise, zoom (2 shows the inner half),
            shift to the right and downwards in pixels.

    Returns:
        float32, shape (B, 3, H, W); images whose row of `moves` is (0, 1, 0, 0) stay untouched.
    """
    moved = np.flatnonzero((moves != np.array([0.0, 1.0, 0.0, 0.0])).any(axis=1))
    if not len(moved):
        return planar
    grid = _grid(moves[moved], planar.shape[2], planar.shape[3], planar.device)
    index = torch.from_numpy(moved).to(planar.device)
    source = planar if len(moved) == len(planar) else planar[index]
    shown = F.grid_sample(source, grid, "bilinear", "reflection", align_corners=False)
    if len(moved) == len(planar):
        return shown
    planar[index] = shown
    return planar


def _grid(moves: npt.NDArray[np.float64], height: int, width: int, device: torch.device) -> Tensor:
    """Return where each output pixel is read, float32 (B, H, W, 2), as grid_sample wants it.

    The inverse of "turn by the angle, zoom, then shift" in pixels about the centre, in the units
    of grid_sample (-1 and 1 are the outer edges). torch's affine_grid takes ten times as long.
    """
    angle, zoom, shift_x, shift_y = moves.T
    cos, sin = np.cos(np.deg2rad(angle)) / zoom, np.sin(np.deg2rad(angle)) / zoom
    rows = np.stack(
        [cos, -sin, -cos * shift_x + sin * shift_y, sin, cos, -sin * shift_x - cos * shift_y]
    )
    a, b, c, d, e, f = torch.from_numpy(rows.astype(np.float32)).to(device)[..., None, None]
    x = torch.arange(width, dtype=torch.float32, device=device) - (width - 1) / 2
    y = (torch.arange(height, dtype=torch.float32, device=device) - (height - 1) / 2)[:, None]
    grid = torch.empty(len(moves), height, width, 2, dtype=torch.float32, device=device)
    torch.add(a * (x * 2 / width), (b * y + c) * 2 / width, out=grid[..., 0])
    torch.add(d * (x * 2 / height), (e * y + f) * 2 / height, out=grid[..., 1])
    return grid
