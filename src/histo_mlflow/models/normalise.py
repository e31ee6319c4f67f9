"""From uint8 pixels to the floats a backbone was trained on, inside the model.

The model takes uint8 and normalises by itself, so training and serving cannot differ, and only a
quarter of the bytes travel to the device.
"""

import torch
from torch import Tensor, nn

from histo_mlflow.errors import ModelError

Triple = tuple[float, float, float]

# Means and standard deviations of pixels scaled to [0, 1]. "imagenet" are the channel statistics
# that torchvision and most of timm were trained with; "half" maps to [-1, 1] (TensorFlow's ports).
STATISTICS: dict[str, tuple[Triple, Triple]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def statistics(normalisation: str, own: tuple[Triple, Triple]) -> tuple[Triple, Triple]:
    """Channel mean and standard deviation for a named normalisation.

    Args:
        normalisation: "auto", or a key of `STATISTICS`.
        own: (mean, std) that the backbone's pretrained weights were trained with, for "auto".

    Returns:
        (mean, std), each three floats for pixels in [0, 1].

    Raises:
        ModelError: the name is not known.
    """
    if normalisation == "auto":
        return own
    if normalisation not in STATISTICS:
        known = ", ".join(["auto", *STATISTICS])
        raise ModelError(f"normalisation must be one of {known}; {normalisation!r} was given.")
    return STATISTICS[normalisation]


class Normalise(nn.Module):
    """(pixels / 255 - mean) / std, as one multiplication and one addition.

    The buffers are not part of the state dict: the model's spec holds the statistics, and two
    places could disagree.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Triple, std: Triple) -> None:
        super().__init__()
        mean_64 = torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)
        std_64 = torch.tensor(std, dtype=torch.float64).view(1, 3, 1, 1)
        self.register_buffer("scale", (1 / (255 * std_64)).float(), persistent=False)
        self.register_buffer("shift", (-mean_64 / std_64).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise.

        Args:
            images: uint8 (B, 3, H, W), any memory format.

        Returns:
            float (B, 3, H, W) in the same memory format.

        Raises:
            ModelError: another dtype or shape; floats are refused because nothing says whether
                they reach to 1 or to 255.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ModelError(
                "The model takes uint8 images of shape (B, 3, H, W); "
                f"{images.dtype} of shape {tuple(images.shape)} came."
            )
        # Working in place on the fresh copy saves two passes of memory on every batch.
        return images.to(self.scale.dtype).mul_(self.scale).add_(self.shift)
