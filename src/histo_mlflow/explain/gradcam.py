"""Grad-CAM: which places of an image speak for a class (Selvaraju et al. 2017, arXiv:1610.02391).

The last map of the image, each channel weighted by its mean gradient of the class's logit, summed,
and only what speaks for the class kept. For transformers the map is that of the patch tokens. The
gradient is captum's; where the map is, `feature_map` says.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor

from histo_mlflow.errors import ModelError
from histo_mlflow.explain.feature_map import FeatureMap, expose, find_feature_map, working_copy
from histo_mlflow.models.build import Classifier

Maps = npt.NDArray[np.float32]

BATCH_IMAGES = 32


def gradcam(
    classifier: Classifier,
    images_NCHW: Tensor,
    class_indices: Sequence[int] | npt.NDArray[np.int64],
    *,
    batch_size: int = BATCH_IMAGES,
    device: str | None = None,
    place: FeatureMap | None = None,
) -> Maps:
    """Compute the Grad-CAM map of each image for one class of each.

    A copy of the model is worked on, in float32 and eval mode; the model itself is not touched,
    whatever of it is frozen, and the caller's autocast and gradient modes play no part.

    Args:
        classifier: the model.
        images_NCHW: uint8 (n, 3, px, px) of the model's size, on any device.
        class_indices: n indices into the model's classes: whose evidence is shown. For a sigmoid,
            class 1 is the logit and class 0 its negative.
        batch_size: images at once.
        device: where to compute; None for where the model is.
        place: what `find_feature_map` said of this model; None to find it here.

    Returns:
        float32 (n, px, px), the map's cells enlarged bilinearly, each map divided by its largest
        value: 1 is where the evidence is strongest. All 0 where nothing speaks for the class.

    Raises:
        ModelError: images or indices that do not fit the model, an architecture without a map of
            the image (the sentence begins "no Grad-CAM for"), or maps that are not finite.
    """
    targets = _checked(classifier, images_NCHW, class_indices, batch_size)
    if place is None:
        place = find_feature_map(classifier)
    with torch.inference_mode(False), torch.enable_grad():
        model = working_copy(classifier, device, torch.float32)
        with torch.autocast(model.normalise.scale.device.type, enabled=False):
            maps = _maps(model, place, images_NCHW, targets, batch_size)
    broken = int((~maps.isfinite()).flatten(1).any(dim=1).sum())
    if broken:
        raise ModelError(
            f"no Grad-CAM for {classifier.spec.name}: NaN or infinite values in the maps of "
            f"{broken:,} of {len(maps):,} images."
        )
    largest = maps.amax(dim=(1, 2), keepdim=True)
    scaled: Maps = (maps / torch.where(largest > 0, largest, 1)).numpy()
    return scaled


def _maps(
    model: Classifier,
    place: FeatureMap,
    images_NCHW: Tensor,
    targets: npt.NDArray[np.int64],
    batch_size: int,
) -> Tensor:
    """Maps as large as the images, not scaled, on the CPU; `model` is a copy."""
    where, px = model.normalise.scale.device, model.spec.image_px
    layer = expose(model.backbone, place)
    method = LayerGradCam(lambda images: _logits(model, images), layer)
    found = [torch.zeros(0, px, px)]
    for start in range(0, len(targets), batch_size):
        batch = slice(start, start + batch_size)
        # Gradients flow from the pixels on: weights that are frozen cannot cut them off.
        images = model.normalise(images_NCHW[batch].to(where)).requires_grad_()
        target = torch.from_numpy(targets[batch]).to(where)
        cells = method.attribute(images, target, relu_attributions=True)
        maps = LayerAttribution.interpolate(cells, (px, px), "bilinear")
        found.append(maps.detach().squeeze(1).cpu())
    return torch.cat(found)


def _logits(model: Classifier, images: Tensor) -> Tensor:
    """One logit a class, also for a sigmoid: float (B, 3, px, px), normalised -> (B, K)."""
    logits: Tensor = model.head(model.backbone(images))
    return torch.cat([-logits, logits], dim=1) if model.spec.output == "sigmoid" else logits


def _checked(
    classifier: Classifier,
    images: Tensor,
    class_indices: Sequence[int] | npt.NDArray[np.int64],
    batch_size: int,
) -> npt.NDArray[np.int64]:
    spec = classifier.spec
    expected = (3, spec.image_px, spec.image_px)
    if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != expected:
        raise ModelError(
            f"Expected uint8 images of shape (n, 3, {spec.image_px}, {spec.image_px}), got "
            f"{images.dtype} of shape {tuple(images.shape)}."
        )
    targets = np.asarray(class_indices)
    if targets.shape != (len(images),):
        raise ModelError(
            f"Expected {len(images):,} class indices, one an image, got {targets.shape}."
        )
    if targets.size and not (
        np.issubdtype(targets.dtype, np.integer)
        and 0 <= targets.min() <= targets.max() < len(spec.classes)
    ):
        raise ModelError(
            f"Expected class indices from 0 to {len(spec.classes) - 1} as integers, got "
            f"{targets.min()} to {targets.max()} ({targets.dtype})."
        )
    if batch_size < 1:
        raise ModelError(f"Expected a batch size of at least 1, got {batch_size}.")
    return targets.astype(np.int64)
