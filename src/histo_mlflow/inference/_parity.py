"""Whether a fast way of computing a model says what the plain model says."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from histo_mlflow.models.build import Output, probabilities

BOUND = 1e-3
"""The greatest difference of a probability. Rounding in float32 makes some 1e-6."""
_TIE = 1e-4  # two classes as near as this may change places


def fixed_images(image_px: int) -> tuple[Tensor, Tensor]:
    """The same images whenever they are asked for: noise, and what looks more like tissue.

    Returns:
        uint8 (4, 3, px, px) and (7, 3, px, px): two sizes of a batch, so that a way that works
        for one size only is found out.
    """
    generator = torch.Generator().manual_seed(5)
    noise = torch.rand((5, 3, image_px, image_px), generator=generator)
    coarse = torch.rand((6, 3, 6, 6), generator=generator)
    smooth = F.interpolate(coarse, size=(image_px, image_px), mode="bilinear")
    images = torch.cat([noise, smooth]).mul(255).round().to(torch.uint8)
    # Strides as those of decoded images: colours last in memory.
    images = images.to(memory_format=torch.channels_last)
    return images[3:7], images[:7]


def answers_of(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a model says in inference mode, on the CPU in float64."""
    with torch.inference_mode():
        return forward(images).double()


def difference(plain: Tensor, fast: Tensor, output: Output, temperature: float) -> str | None:
    """Say in words how two sets of logits differ, or None where they agree.

    They agree where no probability differs by more than `BOUND` and the likeliest class is the
    same; two classes within 1e-4 of each other count as the same. NaN or infinite differs.
    """
    if plain.shape != fast.shape:
        return f"logits of shape {tuple(fast.shape)} in place of {tuple(plain.shape)}"
    before = probabilities(plain.double().cpu() / temperature, output)
    after = probabilities(fast.double().cpu() / temperature, output)
    off = float((before - after).abs().max())
    if not off <= BOUND:  # NaN compares as False
        return f"probabilities that differ by up to {off:.2g} where {BOUND:g} is allowed"
    chosen = after.argmax(dim=1, keepdim=True)
    if bool((before.amax(dim=1, keepdim=True) - before.gather(1, chosen) > _TIE).any()):
        return "another likeliest class"
    return None
