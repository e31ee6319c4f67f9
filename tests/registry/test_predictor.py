from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from histo_mlflow.models.build import build
from histo_mlflow.registry.predictor import BATCH_IMAGES, BadImagesError, Predictor
from histo_mlflow.vision.decode import decode


def test_probabilities_are_those_of_the_model_in_eval_mode(
    model_folder: Path, images: list[bytes]
) -> None:
    predictor = Predictor(model_folder)
    model = build(predictor.spec, seed=1).eval()
    pixels = np.stack([decode(data, predictor.rule) for data in images])
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2)).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = predictor.predict_bytes(images)
    assert answers.dtype == np.float64
    np.testing.assert_allclose(answers, expected, atol=1e-7)


def test_a_sigmoid_model_answers_two_columns(
    tmp_path: Path, write_folder: Callable[..., Path], images: list[bytes]
) -> None:
    folder = write_folder(tmp_path / "m", ("benign", "malignant"), output="sigmoid")
    answers = Predictor(folder).predict_bytes(images)
    assert answers.shape == (4, 2)
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-12)


def test_an_image_has_the_same_answer_alone_and_among_others(
    model_folder: Path, images: list[bytes]
) -> None:
    predictor = Predictor(model_folder)
    many = images * (BATCH_IMAGES // 4) + images[:3]
    answers = predictor.predict_bytes(many)
    assert len(answers) == BATCH_IMAGES + 3
    for index in (0, 1, BATCH_IMAGES, BATCH_IMAGES + 2):
        alone = predictor.predict_bytes([many[index]])
        np.testing.assert_allclose(answers[index], alone[0], atol=1e-6)


def test_no_images_have_no_answers(model_folder: Path) -> None:
    assert Predictor(model_folder).predict_bytes([]).shape == (0, 3)


def test_all_bad_images_are_named_by_index(model_folder: Path, images: list[bytes]) -> None:
    bad = [b"", images[0][:100], b"GIF89a", *images]
    many = images * (BATCH_IMAGES // 4) + bad
    with pytest.raises(BadImagesError) as caught:
        Predictor(model_folder).predict_bytes(many)
    assert [index for index, _ in caught.value.problems] == [64, 65, 66]
    assert "3 of 71 images" in str(caught.value)
    assert "image 64: empty file; image 65: truncated" in str(caught.value)
