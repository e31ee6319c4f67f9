"""Grad-CAM of one image: what the model saw, and which places of it spoke for a class."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from histo_mlflow.errors import ModelError
from histo_mlflow.evaluation.overlays import overlay
from histo_mlflow.explain.feature_map import FeatureMap, find_feature_map
from histo_mlflow.explain.gradcam import gradcam
from histo_mlflow.models.build import Classifier
from histo_mlflow.vision.decode import DecodeRule, decode

SHOWN_PX = 384
"""Side of the pictures, at least: more than most models see, so that a person sees something."""


@dataclass(frozen=True)
class Explanation:
    """Two PNG files of one size: the part of the image that the model saw, and that below its map.

    Attributes:
        seen: the image.
        overlay: the same below the map.
        speaks: whether anything in the image speaks for the class; else the map is empty.
    """

    seen: bytes
    overlay: bytes
    speaks: bool


class Explainer:
    """Grad-CAM maps of a model.

    Args:
        members: the model's classifiers; of several, the mean of their maps is shown.
        rule: how bytes become pixels.
    """

    def __init__(self, members: Sequence[Classifier], rule: DecodeRule) -> None:
        self._members, self._rule = members, rule
        self._places: list[FeatureMap] = []
        self.why_not: str | None = None
        try:
            self._places = [find_feature_map(member) for member in members]
        except ModelError as error:
            self.why_not = str(error)

    def explain(self, data: bytes, class_index: int, *, max_pixels: int) -> Explanation:
        """Draw the map of one image for one class.

        Args:
            data: a whole JPEG, PNG or TIFF.
            class_index: whose evidence is shown.
            max_pixels: refuse a larger image.

        Raises:
            ImageError: the image cannot be used.
            ModelError: there is no Grad-CAM for this model; `why_not` says so beforehand.
        """
        if self.why_not is not None:
            raise ModelError(self.why_not)
        pixels = decode(data, self._rule, max_pixels=max_pixels)
        shown_rule = dataclasses.replace(
            self._rule, image_px=max(SHOWN_PX, self._rule.image_px), draft=False
        )
        shown = decode(data, shown_rule, max_pixels=max_pixels)
        heat = self._heat(pixels, class_index)
        large = torch.nn.functional.interpolate(
            torch.from_numpy(heat)[None, None], shown.shape[:2], mode="bilinear"
        )[0, 0].clamp(0, 1)
        return Explanation(_png(shown), _png(overlay(shown, large.numpy())), bool(heat.max() > 0))

    def _heat(self, pixels: npt.NDArray[np.uint8], class_index: int) -> npt.NDArray[np.float32]:
        images = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
        maps = [
            gradcam(member, images, [class_index], place=place)[0]
            for member, place in zip(self._members, self._places, strict=True)
        ]
        mean: npt.NDArray[np.float32] = np.mean(maps, axis=0, dtype=np.float32)
        largest = float(mean.max())
        return mean / np.float32(largest) if largest > 0 else mean


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    return file.getvalue()
