"""Grad-CAM of one image, at a size that a person can look at."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from histo_mlflow.errors import ImageError, ModelError
from histo_mlflow.explain.gradcam import gradcam
from histo_mlflow.inference.serving.explain import SHOWN_PX, Explainer
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.vision.decode import DecodeRule, decode
from serving_client import png


@pytest.fixture(scope="module")
def explainer(served_folder: Path) -> Explainer:
    model = read_model_folder(served_folder)
    return Explainer(model.members, model.rule)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_both_pictures_show_the_part_that_the_model_saw(explainer: Explainer) -> None:
    data = png(1, 90, 60, "JPEG")
    found = explainer.explain(data, 1, max_pixels=10_000)
    seen, overlay = pixels(found.seen), pixels(found.overlay)
    assert seen.shape == overlay.shape == (SHOWN_PX, SHOWN_PX, 3)
    np.testing.assert_array_equal(seen, decode(data, DecodeRule(SHOWN_PX)))
    assert found.speaks == (not np.array_equal(seen, overlay))


def test_the_map_of_an_ensemble_is_the_mean_of_its_members(
    explainer: Explainer, served_folder: Path
) -> None:
    small = decode(png(5), DecodeRule(64))
    images = torch.from_numpy(small)[None].permute(0, 3, 1, 2)
    members = read_model_folder(served_folder).members
    spoke = 0
    for k in range(3):
        mean = np.mean([gradcam(member, images, [k])[0] for member in members], axis=0)
        expected = mean / mean.max() if mean.max() > 0 else mean
        np.testing.assert_allclose(explainer._heat(small, k), expected, atol=1e-6)
        spoke += mean.max() > 0
    assert spoke


def test_a_bad_image_is_refused(explainer: Explainer) -> None:
    with pytest.raises(ImageError, match="not a JPEG"):
        explainer.explain(b"nothing", 0, max_pixels=100)
    with pytest.raises(ImageError, match="too large"):
        explainer.explain(png(1), 0, max_pixels=100)


def test_a_model_without_a_map_says_so_beforehand(
    served_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(member: object) -> None:
        raise ModelError("no Grad-CAM for this one: it has no map of the image.")

    monkeypatch.setattr("histo_mlflow.inference.serving.explain.find_feature_map", none)
    without = Explainer(read_model_folder(served_folder).members, DecodeRule(64))
    assert without.why_not == "no Grad-CAM for this one: it has no map of the image."
    with pytest.raises(ModelError, match="no Grad-CAM for"):
        without.explain(png(1), 0, max_pixels=10_000)
