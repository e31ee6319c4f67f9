"""On photographs: what the map calls strong is what the score leans on."""

import numpy as np
import pytest
import torch

from histo_mlflow.explain.gradcam import gradcam
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import load_pretrained
from histo_mlflow.vision.decode import DecodeRule, decode


def strongest(maps: np.ndarray, share: float) -> np.ndarray:
    """The places of each map's largest values: bool, a given share of each."""
    flat = maps.reshape(len(maps), -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, : int(share * flat.shape[1])]
    chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen.reshape(maps.shape)


@pytest.mark.slow
def test_covering_what_is_hot_costs_more_than_covering_what_is_cold(realdata):
    """An ImageNet backbone and one direction of its features: their own, on the average image."""
    model = build(
        specify("tf_efficientnet_lite0", ["other", "this"], image_px=96, output="sigmoid")
    )
    load_pretrained(model, str(realdata / "weights" / "tf_efficientnet_lite0-2d6c2e0f.pth"))
    model.eval()
    root = realdata / "ham10000_all_200x150"
    paths = sorted(root.rglob("*.jpg"))[::100]
    pixels = np.stack([decode(path.read_bytes(), DecodeRule(96, "squash")) for path in paths])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        features = model.features(images)
        model.head[-1].weight.copy_(features.mean(dim=0, keepdim=True))
        before = model(images)[:, 0].numpy()

    maps = gradcam(model, images, [1] * len(images))

    def cost(covered: np.ndarray) -> float:
        grey = np.median(pixels, axis=(1, 2)).astype(np.uint8)[:, None, None]
        seen = np.where(covered[..., None], grey, pixels)
        with torch.no_grad():
            after = model(torch.from_numpy(seen).permute(0, 3, 1, 2).contiguous())[:, 0].numpy()
        return float((before - after).mean())

    assert cost(strongest(maps, 0.2)) > 2 * cost(strongest(-maps, 0.2))
