"""The eight ways to lay a square image down.

There is no up in a slide or a skin lesion, so all of them are equally good views of it. Test-time
augmentation takes the mean of their logits: one prediction that asks eight times as much work.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

VIEWS: Mapping[str, tuple[bool, int]] = {
    "identity": (False, 0),
    "turned 90": (False, 1),
    "turned 180": (False, 2),
    "turned 270": (False, 3),
    "mirrored": (True, 0),
    "mirrored, turned 90": (True, 1),
    "mirrored, turned 180": (True, 2),
    "mirrored, turned 270": (True, 3),
}
"""Whether an image is mirrored left-right, and by how many quarters it is then turned (counter-
clockwise): all eight symmetries of a square."""


def view(images: Tensor, name: str) -> Tensor:
    """Return images (B, 3, H, H) as one of `VIEWS` shows them; pixels are moved exactly."""
    mirrored, quarters = VIEWS[name]
    seen = images.flip(3) if mirrored else images
    return torch.rot90(seen, quarters, (2, 3))
