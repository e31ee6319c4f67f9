"""From bytes to calibrated probabilities: a model folder at work."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from histo_mlflow.errors import DataError, ImageError, ModelError
from histo_mlflow.models.build import probabilities
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.vision.decode import decode

BATCH_IMAGES = 64


class BadImagesError(ImageError):
    """Some images of a request cannot be used.

    `problems` holds (index in the request, reason) for each; the message names the first five.
    """

    def __init__(self, problems: Sequence[tuple[int, str]], total: int) -> None:
        self.problems = tuple(problems)
        first = "; ".join(f"image {index}: {reason}" for index, reason in self.problems[:5])
        more = f"; and {len(self.problems) - 5} more" if len(self.problems) > 5 else ""
        super().__init__(f"{len(self.problems)} of {total} images cannot be used: {first}{more}")


class Predictor:
    """From bytes to probabilities, exactly as the model was evaluated.

    The logits of the members are averaged and divided by the temperature, in float64, so what
    comes out is calibrated; the models themselves run in float32 on either device. The same image
    gives the same probabilities alone and in a batch to within float32 rounding.

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
        self.calibration, self.temperature = model.calibration, model.temperature
        self.abstain_below, self.digest = model.abstain_below, model.digest
        self._device = torch.device(device)
        self.members = tuple(member.to(self._device) for member in model.members)

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
        logits = torch.from_numpy(self.logits_pixels(images_NHWC))
        answers: npt.NDArray[np.float64] = probabilities(logits, self.spec.output).numpy()
        return answers

    def logits_pixels(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Calibrated logits of decoded pixels: the members' mean divided by the temperature.

        Args:
            images_NHWC: uint8 (n, px, px, 3) RGB.

        Returns:
            float64 (n, K), or (n, 1) for a sigmoid.

        Raises:
            DataError: pixels of another type or shape.
            ModelError: an answer is no number, such as from weights that were altered: it would be
                taken for the first class.
        """
        expected = (self.spec.image_px, self.spec.image_px, 3)
        if images_NHWC.dtype != np.uint8 or images_NHWC.shape[1:] != expected:
            raise DataError(
                f"uint8 pixels of shape (n, {', '.join(map(str, expected))}) were expected, got "
                f"{images_NHWC.dtype} {images_NHWC.shape}"
            )
        images = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).to(self._device)
        with torch.inference_mode():
            logits = [member(images).cpu().double() for member in self.members]
        mean = torch.stack(logits).mean(dim=0) / self.temperature
        if not bool(mean.isfinite().all()):
            raise ModelError(
                "the model answered with NaN or infinity, which is no probability; take another"
            )
        answers: npt.NDArray[np.float64] = mean.numpy()
        return answers
