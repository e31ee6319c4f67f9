"""How a model sees images: the vector that its head is given for each."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from histo_mlflow.data.batches import PackedDataset, batches
from histo_mlflow.device import DevicePlan
from histo_mlflow.errors import DataError
from histo_mlflow.models.build import Classifier
from histo_mlflow.training.memory import is_out_of_memory

logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]


def features(
    model: Classifier, images: PackedDataset | Pixels, *, batch_size: int, plan: DevicePlan
) -> npt.NDArray[np.float32]:
    """Pooled features of every image, without augmentation, in evaluation mode.

    Always in float32, as final predictions are. The model's mode is put back afterwards and its
    weights and statistics do not change. What does not fit into memory is done again in batches of
    half the size, which changes no more than the last bits.

    Args:
        model: on the plan's device.
        images: a data set, or uint8 (n, H, W, 3), RGB.
        batch_size: images at once, at least 1.
        plan: device and memory format; its precision is not used.

    Returns:
        float32 (n, D), in the order of the images; D is the width of the backbone, also for no
        images.

    Raises:
        DataError: an array of another type or shape.
    """
    if not isinstance(images, PackedDataset) and (
        images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3
    ):
        raise DataError(
            f"Expected uint8 images of shape (n, H, W, 3), got {images.dtype} {images.shape}."
        )
    was_training = model.training
    model.eval()
    try:
        while True:
            try:
                return _features(model, images, batch_size, plan)
            except (RuntimeError, MemoryError) as error:
                if batch_size == 1 or not is_out_of_memory(error):
                    raise
            batch_size //= 2
            logger.warning("out of memory: seeing images in batches of %d", batch_size)
    finally:
        model.train(was_training)


def _features(
    model: Classifier, images: PackedDataset | Pixels, batch_size: int, plan: DevicePlan
) -> npt.NDArray[np.float32]:
    if not len(images):
        return np.empty((0, _width(model, plan)), dtype=np.float32)
    with torch.inference_mode():
        parts = [
            model.features(batch.contiguous(memory_format=plan.memory_format)).float().cpu()
            for batch in _batches(images, batch_size, plan)
        ]
    return torch.cat(parts).numpy()


def _batches(images: PackedDataset | Pixels, batch_size: int, plan: DevicePlan) -> Iterator[Tensor]:
    """uint8 (B, 3, H, W) on the device."""
    if isinstance(images, PackedDataset):
        order = np.arange(len(images), dtype=np.int64)
        for batch in batches(images, order, batch_size, drop_last=False, device=plan.device):
            yield batch.images
        return
    for start in range(0, len(images), batch_size):
        # a copy: torch refuses to promise anything about the read-only rows of a memory map
        some = np.array(images[start : start + batch_size])
        yield torch.from_numpy(some).permute(0, 3, 1, 2).to(plan.device)


def _width(model: Classifier, plan: DevicePlan) -> int:
    """Of the features; only the model itself knows."""
    px = model.spec.image_px
    with torch.inference_mode():
        black = torch.zeros(1, 3, px, px, dtype=torch.uint8, device=plan.device)
        return int(model.features(black).shape[1])
