"""Calibration, ensembles and the model card in a model folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from histo_mlflow.errors import ModelFolderError
from histo_mlflow.models.build import build
from histo_mlflow.registry.model_folder import (
    folder_digest,
    read_model_folder,
    write_model_folder,
)
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import decode

SEVEN = tuple("abcdefg")
TWO = ("benign", "malignant")
KINDS = {
    "two classes": (TWO, "softmax"),
    "one sigmoid": (TWO, "sigmoid"),
    "seven classes": (SEVEN, "softmax"),
}
Write = Callable[..., Path]


def of(temperature: object, **thresholds: object) -> dict[str, Any]:
    return {"temperature": temperature, "thresholds": thresholds}


def pixels_of(predictor: Predictor, images: list[bytes]) -> np.ndarray:
    return np.stack([decode(data, predictor.rule) for data in images])


def logits_of_members(
    predictor: Predictor, images: list[bytes], seeds: tuple[int, ...]
) -> np.ndarray:
    """Of models built anew, without the folder: (members, n, outputs)."""
    batch = torch.from_numpy(pixels_of(predictor, images)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        models = [build(predictor.spec, seed=seed).eval() for seed in seeds]
        return np.stack([model(batch).double().numpy() for model in models])


def probabilities(logits: np.ndarray) -> np.ndarray:
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_served_is_the_calibrated_probability(
    kind: str, tmp_path: Path, write_folder: Write, images: list[bytes]
) -> None:
    classes, output = KINDS[kind]
    plain = Predictor(write_folder(tmp_path / "plain", classes, output=output))
    halved = Predictor(write_folder(tmp_path / "m", classes, output=output, calibration=of(2)))
    pixels = pixels_of(plain, images)

    logits = plain.logits_pixels(pixels)
    np.testing.assert_array_equal(halved.logits_pixels(pixels), logits / 2)
    answers = halved.predict_bytes(images)
    np.testing.assert_allclose(answers, probabilities(logits / 2), rtol=0, atol=1e-12)
    assert (answers.argmax(axis=1) == plain.predict_bytes(images).argmax(axis=1)).all()
    assert not np.array_equal(answers, plain.predict_bytes(images))


@pytest.mark.parametrize("kind", KINDS)
def test_temperature_one_changes_no_bit(
    kind: str, tmp_path: Path, write_folder: Write, images: list[bytes]
) -> None:
    classes, output = KINDS[kind]
    plain = write_folder(tmp_path / "plain", classes, output=output)
    one = write_folder(tmp_path / "one", classes, output=output, calibration=of(1.0))
    np.testing.assert_array_equal(
        Predictor(one).predict_bytes(images), Predictor(plain).predict_bytes(images)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_answers_by_the_mean_of_the_logits(
    kind: str, tmp_path: Path, write_folder: Write, images: list[bytes]
) -> None:
    classes, output = KINDS[kind]
    folder = write_folder(
        tmp_path / "m", classes, output=output, seeds=(1, 2, 3), calibration=of(1.5)
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.json",
        "weights_0.safetensors",
        "weights_1.safetensors",
        "weights_2.safetensors",
    ]
    predictor = Predictor(folder)
    mean = logits_of_members(predictor, images, (1, 2, 3)).mean(axis=0) / 1.5
    np.testing.assert_allclose(
        predictor.logits_pixels(pixels_of(predictor, images)), mean, rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        predictor.predict_bytes(images), probabilities(mean), rtol=0, atol=1e-6
    )


def test_a_dozen_members_keep_their_order(
    tmp_path: Path, write_folder: Write, images: list[bytes]
) -> None:
    """weights_10 comes after weights_9, not after weights_1."""
    model = read_model_folder(write_folder(tmp_path / "m", seeds=tuple(range(11))))
    assert len(model.members) == 11
    for seed in (2, 10):
        expected = build(model.spec, seed=seed).head.state_dict()
        found = model.members[seed].head.state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_temperature_and_thresholds_are_read_as_they_were_written(
    tmp_path: Path, write_folder: Write
) -> None:
    calibration = of(
        1.25,
        youden={"value": 0.5, "validation": {"sensitivity": 0.9, "specificity": None}},
        sensitivity={"value": 0.0},
        cost={"value": 1},
    )
    folder = write_folder(tmp_path / "m", TWO, calibration=calibration)
    model = read_model_folder(folder)
    assert model.calibration == calibration
    assert model.temperature == Predictor(folder).temperature == 1.25


@pytest.mark.parametrize("calibration", [None, of(3.0)], ids=["none", "3"])
def test_the_card_lies_in_the_folder_and_cannot_be_altered(
    calibration: dict[str, Any] | None, tmp_path: Path, write_folder: Write
) -> None:
    folder = write_folder(tmp_path / "m", card="# Card\n\nµ\n", calibration=calibration)
    assert (folder / "MODEL_CARD.md").read_text(encoding="utf-8") == "# Card\n\nµ\n"
    read_model_folder(folder)
    (folder / "MODEL_CARD.md").write_text("# Better")
    with pytest.raises(ModelFolderError, match=r"MODEL_CARD.md was altered"):
        read_model_folder(folder)
    (folder / "MODEL_CARD.md").unlink()
    with pytest.raises(ModelFolderError, match=r"lacks MODEL_CARD.md"):
        read_model_folder(folder)


@pytest.mark.parametrize("change", ["removed", "altered", "swapped", "added"])
def test_every_member_of_an_ensemble_is_checked(
    change: str, tmp_path: Path, write_folder: Write
) -> None:
    folder = write_folder(tmp_path / "m", seeds=(1, 2))
    first, second = folder / "weights_0.safetensors", folder / "weights_1.safetensors"
    if change == "removed":
        second.unlink()
    elif change == "altered":
        second.write_bytes(second.read_bytes()[:-1] + b"\0")
    elif change == "swapped":
        first.rename(tmp_path / "x")
        second.rename(first)
        (tmp_path / "x").rename(second)
    else:
        shutil.copyfile(first, folder / "weights_2.safetensors")
    with pytest.raises(ModelFolderError, match=r"lacks|was altered|does not belong"):
        read_model_folder(folder)


BAD: dict[str, tuple[object, str]] = {
    "temperature 0": (of(0), "temperature above 0"),
    "temperature below 0": (of(-1.5), "temperature above 0"),
    "temperature NaN": (of(float("nan")), "temperature above 0"),
    "temperature infinite": (of(float("inf")), "temperature above 0"),
    "temperature that makes infinite logits": (of(1e-300), "temperature above 0"),
    "temperature that is text": (of("2"), "temperature above 0"),
    "temperature that is true": (of(True), "temperature above 0"),
    "no temperature": (of(None), "temperature above 0"),
    "a key missing": ({"temperature": 2.0}, "temperature and thresholds, or none"),
    "a key too many": ({**of(2.0), "bias": 1}, "temperature and thresholds, or none"),
    "a list": ([2.0], "temperature and thresholds, or none"),
    "an unknown rule": (of(2.0, f1={"value": 0.5}), "Expected thresholds by"),
    "thresholds in a list": ({"temperature": 1.0, "thresholds": [0.5]}, "Expected thresholds by"),
    "a bare threshold": (of(2.0, youden=0.5), "Expected a probability"),
    "a threshold without value": (of(2.0, youden={}), "Expected a probability"),
    "a threshold above 1": (of(2.0, youden={"value": 1.5}), "Expected a probability"),
    "a threshold NaN": (of(2.0, cost={"value": float("nan")}), "Expected a probability"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_calibration_is_refused_on_writing_and_on_reading(
    kind: str, tmp_path: Path, write_folder: Write
) -> None:
    bad, words = BAD[kind]
    folder = write_folder(tmp_path / "m", TWO)
    model = read_model_folder(folder)
    with pytest.raises(ModelFolderError, match=words):
        write_model_folder(
            tmp_path / "other",
            spec=model.spec,
            rule=model.rule,
            weights_paths=[folder / "weights.safetensors"],
            calibration=bad,  # type: ignore[arg-type]
            provenance={},
        )
    assert not (tmp_path / "other").exists()
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**description, "calibration": bad}))
    with pytest.raises(ModelFolderError, match=words):
        read_model_folder(folder)


def test_with_more_than_two_classes_each_has_a_threshold(
    tmp_path: Path, write_folder: Write
) -> None:
    by_class = {"a": {"value": 0.1}, "g": {"value": 0.9, "validation": {"sensitivity": 0.8}}}
    folder = write_folder(tmp_path / "m", SEVEN, calibration=of(1.0, youden=by_class))
    calibration = read_model_folder(folder).calibration
    assert calibration is not None
    assert calibration["thresholds"] == {"youden": by_class}
    wrong = {
        "Expected the classes a, b": {"value": 0.5},
        "classes a, b, c, d, e, f, g": {"z": {"value": 0.5}},
        "threshold youden of a": {"a": 0.5},
    }
    for words, bad in wrong.items():
        with pytest.raises(ModelFolderError, match=words):
            write_folder(tmp_path / "n", SEVEN, calibration=of(1.0, youden=bad))


def test_no_weights_or_weights_that_are_not_there_are_refused(
    tmp_path: Path, write_folder: Write
) -> None:
    model = read_model_folder(write_folder(tmp_path / "m"))
    for paths, words in (([], "one model or more"), ([tmp_path / "gone"], "file of weights at")):
        with pytest.raises(ModelFolderError, match=words):
            write_model_folder(
                tmp_path / "other",
                spec=model.spec,
                rule=model.rule,
                weights_paths=paths,
                calibration=None,
                provenance={},
            )


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_of_an_earlier_version_lacks_what_came_later(
    version: int, model_folder: Path, tmp_path: Path, images: list[bytes]
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "old"))
    description = json.loads((folder / "model.json").read_text())
    for later in ("calibration", "abstain")[version - 1 :]:
        del description[later]
    (folder / "model.json").write_text(json.dumps({**description, "format_version": version}))
    model = read_model_folder(folder)
    assert (model.calibration, model.abstain, model.abstain_below) == (None, None, 0.0)
    np.testing.assert_array_equal(
        Predictor(folder).predict_bytes(images), Predictor(model_folder).predict_bytes(images)
    )


def test_another_temperature_or_member_is_another_model(
    tmp_path: Path, write_folder: Write
) -> None:
    folders = [
        write_folder(tmp_path / "plain"),
        write_folder(tmp_path / "calibrated", calibration=of(1.5)),
        write_folder(tmp_path / "warmer", calibration=of(1.6)),
        write_folder(tmp_path / "two", seeds=(1, 2)),
        write_folder(tmp_path / "other", seeds=(1, 3)),
    ]
    assert len({folder_digest(folder) for folder in folders}) == len(folders)
    again = write_folder(tmp_path / "again", calibration=of(1.5))
    assert folder_digest(again) == folder_digest(folders[1])


RULE = {"below": 0.6, "share": 0.1, "rows": 200}


def test_when_to_abstain_is_read_as_it_was_written(tmp_path: Path, write_folder: Write) -> None:
    model = read_model_folder(write_folder(tmp_path / "m", abstain=RULE))
    assert (model.abstain, model.abstain_below) == (RULE, 0.6)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"below": 0.6}, "of below, share and rows"),
        ("often", "of below, share and rows"),
        ({**RULE, "below": 1.5}, r"below of the rule to abstain in \[0, 1\], got 1.5"),
        ({**RULE, "share": float("nan")}, "share of the rule"),
        ({**RULE, "rows": 0}, "rows of the rule to abstain to be 1 or more, got 0"),
        ({**RULE, "rows": True}, "rows of the rule"),
    ],
)
def test_what_is_no_rule_to_abstain_is_refused(
    rule: object, reason: str, tmp_path: Path, write_folder: Write
) -> None:
    with pytest.raises(ModelFolderError, match=reason):
        write_folder(tmp_path / "m", abstain=rule)
    assert not (tmp_path / "m").exists()
