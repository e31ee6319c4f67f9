import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from histo_mlflow.errors import ModelFolderError
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import (
    BATCH_IMAGES,
    BadImagesError,
    Predictor,
    read_model_folder,
    write_model_folder,
)
from histo_mlflow.vision.decode import DecodeRule, decode


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def test_what_was_written_is_read(model_folder: Path) -> None:
    assert sorted(p.name for p in model_folder.iterdir()) == ["model.json", "weights.safetensors"]
    model = read_model_folder(model_folder)
    expected = build(model.spec, seed=1).state_dict()
    read = model.classifier.state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[key], expected[key]) for key in expected)
    assert not model.classifier.training
    assert model.spec.classes == ("a", "b&c", "d e")
    assert model.rule == DecodeRule(32)
    assert model.facts["metrics"] == {"test/auc": 0.9}


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


def test_a_sigmoid_model_answers_two_columns(tmp_path: Path, images: list[bytes]) -> None:
    spec = specify("resnet18", ("benign", "malignant"), image_px=32, output="sigmoid")
    save_weights(build(spec), tmp_path / "w.safetensors")
    write_model_folder(
        tmp_path / "m",
        spec=spec,
        rule=DecodeRule(32),
        weights_path=tmp_path / "w.safetensors",
        provenance={},
    )
    answers = Predictor(tmp_path / "m").predict_bytes(images)
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


def edit(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return apply


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)


def link_the_weights(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder.parent / "elsewhere")
    (folder / "weights.safetensors").symlink_to(folder.parent / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "altered weights": (flip_a_bit, "was altered"),
    "a linked file": (link_the_weights, "is a link"),
    "an added file": (
        lambda f: (f / "extra.py").write_text("x"),
        "does not belong there: extra.py",
    ),
    "weights gone": (lambda f: (f / "weights.safetensors").unlink(), "lacks weights.safetensors"),
    "description gone": (lambda f: (f / "model.json").unlink(), "lacks model.json"),
    "folder gone": (shutil.rmtree, "no model folder at"),
    "no JSON": (lambda f: (f / "model.json").write_text("{"), "is not JSON"),
    "no text": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe"), "is not JSON"),
    "another JSON": (lambda f: (f / "model.json").write_text("[1]"), "does not describe a model"),
    "a later version": (edit(format_version=2), "format version 2, version 1 was expected"),
    "an unknown field": (edit(loader="x"), "must hold"),
    "no digest": (edit(files={}), "must hold"),
    "an unknown architecture": (edit(spec={"name": "x"}), "cannot be built"),
    "an unknown rule": (edit(rule={"rule_version": 9}), "cannot be built"),
    "another size": (edit(rule=DecodeRule(48).to_dict()), "contradicts itself"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_folder_that_is_not_as_it_was_written_is_refused(copy: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    damage(copy)
    with pytest.raises(ModelFolderError, match=words):
        read_model_folder(copy)


def test_weights_of_another_architecture_are_refused(copy: Path) -> None:
    spec = specify("resnet18", ("a", "b"), image_px=32)
    edit(spec=spec.to_dict())(copy)
    with pytest.raises(ModelFolderError, match="cannot be built"):
        read_model_folder(copy)


def test_a_folder_is_never_overwritten_and_a_failed_write_leaves_nothing(
    model_folder: Path, tmp_path: Path
) -> None:
    model = read_model_folder(model_folder)
    weights = model_folder / "weights.safetensors"

    def write(folder: Path, px: int = 32, **provenance: object) -> None:
        write_model_folder(
            folder,
            spec=model.spec,
            rule=DecodeRule(px),
            weights_path=weights,
            provenance=provenance,
        )

    with pytest.raises(ModelFolderError, match="is there already"):
        write(model_folder)
    with pytest.raises(ModelFolderError, match="takes images of 32 px"):
        write(tmp_path / "m", px=48)
    with pytest.raises(ModelFolderError, match="as JSON"):
        write(tmp_path / "m", auc=float("nan"))
    with pytest.raises(ModelFolderError, match="as JSON"):
        write(tmp_path / "m", where=tmp_path)
    assert list(tmp_path.iterdir()) == []
