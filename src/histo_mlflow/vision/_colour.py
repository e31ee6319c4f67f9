"""Batched colour: brightness, contrast and saturation in one product, hue, and painted rectangles.

Formulas are those of torchvision.transforms.v2.functional (adjust_brightness and so on), on whole
batches and without clamping in between.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# ITU-R BT.601 luma, the weights of Pillow's and torchvision's grey.
_LUMA = (0.2989, 0.587, 0.114)


def jitter(planar: Tensor, factors: npt.NDArray[np.float64]) -> Tensor:
    """Change brightness, then contrast, saturation and hue, each image by its own factors.

    With brightness b, contrast c, saturation s, luma weights w and the luma m of the image's mean
    colour, the first three steps are x -> b x, x -> c x + (1 - c) m, x -> s x + (1 - s) w.x, and
    their product is one matrix, b c (s I + (1 - s) 1 w^T), and one offset, (1 - c) b m.

    Args:
        planar: float32, shape (B, 3, H, W), 0 to 255.
        factors: shape (B, 4): b, c, s, and the shift of the hue in turns.

    Returns:
        float32, shape (B, 3, H, W); not clamped unless a hue moves.
    """
    count, channels, height, width = planar.shape
    brightness, contrast, saturation, hue = factors.T
    luma = np.array(_LUMA) / sum(_LUMA)
    grey = (1 - saturation)[:, None, None] * luma[None, None, :]
    matrix = (brightness * contrast)[:, None, None] * (saturation[:, None, None] * np.eye(3) + grey)
    flat = planar.view(count, channels, height * width)
    device = planar.device
    mixed = torch.bmm(torch.from_numpy(matrix.astype(np.float32)).to(device), flat)
    if (contrast != 1).any():
        weights = torch.tensor(luma, dtype=torch.float32, device=device)
        slope = torch.from_numpy(((1 - contrast) * brightness).astype(np.float32)).to(device)
        mixed += (flat.mean(dim=2) @ weights * slope)[:, None, None]
    mixed = mixed.view_as(planar)
    return _shift_hue(mixed.clamp_(0.0, 255.0), hue) if hue.any() else mixed


def _shift_hue(planar: Tensor, turns: npt.NDArray[np.float64]) -> Tensor:
    """Turn the HSV hue, keeping value and saturation; grey pixels have no hue and stay.

    The hue h in sixths of a turn is that of colorsys; the colour is put together again as
    V - C max(0, min(1, k, 4 - k)) with k = (n + h) mod 6 and n = 5, 3, 1 for red, green, blue
    (Wikipedia, "HSL and HSV", HSV to RGB alternative), with V the greatest channel and C the span.
    """
    red, green, blue = planar.unbind(1)
    value, span = planar.amax(1), planar.amax(1) - planar.amin(1)
    safe = span.clamp_min(1e-6)
    sixths = torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    sixths = torch.where(value == red, (green - blue) / safe, sixths)
    moved = torch.from_numpy((6 * turns).astype(np.float32)).to(planar.device)
    sixths = sixths + moved[:, None, None]
    shifted = torch.empty_like(planar)
    for channel, start in enumerate((5.0, 3.0, 1.0)):
        k = torch.remainder(sixths + start, 6.0)
        torch.sub(value, span * torch.minimum(k, 4 - k).clamp_(0, 1), out=shifted[:, channel])
    return shifted


def paint(images: Tensor, chosen: npt.NDArray[np.int64], boxes: npt.NDArray[np.int64]) -> Tensor:
    """Return the images with a rectangle of the mean colour painted into each of the chosen ones.

    Args:
        images: uint8, shape (B, 3, H, W); not changed.
        chosen: which images, shape (C,).
        boxes: shape (C, 4): top, left, height, width in pixels.
    """
    device = images.device
    index = torch.from_numpy(chosen).to(device)
    top, left, tall, wide = torch.from_numpy(boxes).to(device).T[..., None]
    rows = torch.arange(images.shape[2], device=device)
    columns = torch.arange(images.shape[3], device=device)
    tall_mask = (rows >= top) & (rows < top + tall)
    wide_mask = (columns >= left) & (columns < left + wide)
    inside = (tall_mask[:, :, None] & wide_mask[:, None, :])[:, None]
    part = images[index]
    mean = part.float().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
    painted = images.clone()
    painted[index] = torch.where(inside, mean, part)
    return painted
