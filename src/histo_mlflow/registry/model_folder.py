"""The model folder: weights and everything needed to use them, in two files without code.

    weights.safetensors     the weights, float32
    model.json              architecture, classes, decode rule, provenance, digests

A folder is written whole or not at all, and read only when every byte is as it was written.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from histo_mlflow.errors import DataError, HistoMlflowError, ImageError, ModelFolderError
from histo_mlflow.models.build import Classifier, ModelSpec, build, probabilities
from histo_mlflow.models.weights import load_weights
from histo_mlflow.vision.decode import DecodeRule, decode

FORMAT = "histo-mlflow model"
FORMAT_VERSION = 1
DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"
BATCH_IMAGES = 64

_FIELDS = frozenset({"format", "format_version", "spec", "rule", "files", "provenance"})


@dataclass(frozen=True)
class LoadedModel:
    """What a model folder held. `classifier` is in eval mode on the CPU.

    `facts` are the provenance that was written, plus `weights_sha256`.
    """

    classifier: Classifier = field(repr=False)
    spec: ModelSpec
    rule: DecodeRule
    facts: Mapping[str, Any]


class BadImagesError(ImageError):
    """Some images of a request cannot be used.

    `problems` holds (index in the request, reason) for each; the message names the first five.
    """

    def __init__(self, problems: Sequence[tuple[int, str]], total: int) -> None:
        self.problems = tuple(problems)
        first = "; ".join(f"image {index}: {reason}" for index, reason in self.problems[:5])
        more = f"; and {len(self.problems) - 5} more" if len(self.problems) > 5 else ""
        super().__init__(f"{len(self.problems)} of {total} images cannot be used: {first}{more}")


def write_model_folder(
    folder: Path,
    *,
    spec: ModelSpec,
    rule: DecodeRule,
    weights_path: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write a model folder in one step.

    Args:
        folder: must not be there yet; its parent is made.
        spec: the architecture and the classes.
        rule: how bytes become pixels; the same as in training.
        weights_path: a safetensors file of the model that `spec` builds (`weights.save_weights`).
        provenance: JSON values that say where the model came from (run id, digests, metrics).

    Raises:
        ModelFolderError: the folder is there already, `rule` and `spec` disagree on the size, or
            `provenance` is not JSON.
    """
    if os.path.lexists(folder):
        raise ModelFolderError(f"{folder} is there already; a model folder is never overwritten")
    if rule.image_px != spec.image_px:
        raise ModelFolderError(
            f"the model takes images of {spec.image_px} px, but the decode rule makes them "
            f"{rule.image_px} px"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        shutil.copyfile(weights_path, temporary / WEIGHTS)
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "spec": spec.to_dict(),
            "rule": rule.to_dict(),
            "files": {WEIGHTS: _sha256(temporary / WEIGHTS)},
            "provenance": dict(provenance),
        }
        try:
            text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ModelFolderError(f"the provenance cannot be written as JSON: {error}") from error
        (temporary / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_model_folder(folder: Path) -> LoadedModel:
    """Read a model folder after checking it byte by byte.

    Raises:
        ModelFolderError: a file is missing, added, a link or altered; the description is not ours
            or of another version; or the weights do not fit the architecture.
    """
    _check_files(folder)
    description = _description(folder)
    found = _sha256(folder / WEIGHTS)
    expected = description["files"][WEIGHTS]
    if found != expected:
        raise ModelFolderError(
            f"{folder / WEIGHTS} was altered: sha256 {found[:12]}..., expected {expected[:12]}..."
            "; fetch the model again"
        )
    try:
        spec = ModelSpec.from_dict(description["spec"])
        rule = DecodeRule.from_dict(description["rule"])
        classifier = build(spec)
        load_weights(classifier, folder / WEIGHTS)
    except (HistoMlflowError, TypeError, ValueError) as error:
        raise ModelFolderError(f"the model in {folder} cannot be built: {error}") from error
    if rule.image_px != spec.image_px:
        raise ModelFolderError(
            f"{folder / DESCRIPTION} contradicts itself: the model takes {spec.image_px} px, the "
            f"decode rule makes {rule.image_px} px"
        )
    facts = {**description["provenance"], "weights_sha256": found}
    return LoadedModel(classifier.eval(), spec, rule, facts)


class Predictor:
    """From bytes to probabilities, exactly as the model was evaluated.

    float32 on either device; the same image gives the same probabilities alone and in a batch to
    within float32 rounding.

    Args:
        folder: a model folder.
        device: "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ModelFolderError: see `read_model_folder`.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        model = read_model_folder(folder)
        self.spec, self.rule, self.facts = model.spec, model.rule, model.facts
        self.classes = model.spec.classes
        self._device = torch.device(device)
        self._classifier = model.classifier.to(self._device)

    def predict_bytes(self, images: Sequence[bytes]) -> npt.NDArray[np.float64]:
        """Probabilities of encoded images.

        Args:
            images: whole JPEG, PNG or TIFF files. An empty sequence gives an empty answer.

        Returns:
            float64 (n, K), one row an image, columns in the order of `classes`.

        Raises:
            BadImagesError: images that cannot be decoded, all of them, by index.
        """
        answers = np.empty((len(images), len(self.classes)))
        problems: list[tuple[int, str]] = []
        for start in range(0, len(images), BATCH_IMAGES):
            pixels = []
            for index, data in enumerate(images[start : start + BATCH_IMAGES], start):
                try:
                    pixels.append(decode(data, self.rule))
                except ImageError as error:
                    problems.append((index, str(error)))
            # After the first bad image only the others' badness is still of interest.
            if not problems:
                answers[start : start + len(pixels)] = self.predict_pixels(np.stack(pixels))
        if problems:
            raise BadImagesError(problems, len(images))
        return answers

    def predict_pixels(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Probabilities of decoded pixels: uint8 (n, px, px, 3) RGB -> float64 (n, K)."""
        expected = (self.spec.image_px, self.spec.image_px, 3)
        if images_NHWC.dtype != np.uint8 or images_NHWC.shape[1:] != expected:
            raise DataError(
                f"uint8 pixels of shape (n, {', '.join(map(str, expected))}) were expected, got "
                f"{images_NHWC.dtype} {images_NHWC.shape}"
            )
        images = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).to(self._device)
        with torch.inference_mode():
            logits = self._classifier(images)
        answers: npt.NDArray[np.float64] = probabilities(logits.cpu(), self.spec.output).numpy()
        return answers


def _check_files(folder: Path) -> None:
    try:
        found = {entry.name: entry.lstat().st_mode for entry in folder.iterdir()}
    except OSError as error:
        raise ModelFolderError(f"no model folder at {folder}: {error.strerror}") from error
    expected = {DESCRIPTION, WEIGHTS}
    if missing := sorted(expected - found.keys()):
        raise ModelFolderError(f"the model folder {folder} lacks {', '.join(missing)}")
    if extra := sorted(found.keys() - expected):
        raise ModelFolderError(
            f"the model folder {folder} holds what does not belong there: {', '.join(extra[:5])}"
        )
    for name, mode in found.items():
        if not stat.S_ISREG(mode):
            raise ModelFolderError(f"{folder / name} is a link or no plain file")


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also what is not UTF-8
        raise ModelFolderError(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ModelFolderError(f"{path} does not describe a model of histo-mlflow")
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path} has format version {version}, version {FORMAT_VERSION} was expected: use the "
            "release of histo-mlflow that wrote it"
        )
    files = description.get("files")
    if description.keys() != _FIELDS or not isinstance(files, dict) or files.keys() != {WEIGHTS}:
        raise ModelFolderError(
            f"{path} must hold {', '.join(sorted(_FIELDS))}, with a digest of {WEIGHTS} alone"
        )
    return description


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
