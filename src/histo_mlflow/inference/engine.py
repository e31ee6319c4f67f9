"""Ways to compute what a model folder says: the same answers, sooner.

`registry.predictor.Predictor` is the plain way and the one that is served. The engines here are
for many images. Whatever an engine does to be fast, it is checked once, when it is made, against
the plain model on a few fixed images: a torch engine that differs falls back to the plain model
and says so in its `notes`; an ONNX engine that differs is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from histo_mlflow.errors import DataError, EngineError
from histo_mlflow.inference._onnx_engine import onnx_forwards
from histo_mlflow.inference._parity import answers_of, difference, fixed_images
from histo_mlflow.inference._torch_engine import torch_forwards
from histo_mlflow.models.build import Output, probabilities
from histo_mlflow.registry.model_folder import LoadedModel
from histo_mlflow.vision.views import VIEWS, view

Kind = Literal["torch", "onnx"]
KINDS: tuple[Kind, ...] = ("torch", "onnx")
# On a CPU the maps of 64 images leave the cache, and blocks of memory that large go back to the
# kernel after every layer, in a thread sooner still: of tf_efficientnet_lite0 at 96 px 32 images at
# once took 5.2 ms of processor time each in `decode_and_predict`, 16 took 3.2 ms.
_AT_ONCE = {"cpu": 16, "other": 256}


class Engine(Protocol):
    """From pixels to calibrated logits.

    Attributes:
        name: "torch" or "onnx".
        classes: in the order of the probabilities.
        output: "softmax" or "sigmoid", for `engine_probabilities`.
        image_px: side of the images.
        notes: what a user should know of how this engine computes; often empty.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def output(self) -> Output: ...  # noqa: D102
    @property
    def image_px(self) -> int: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def logits(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Calibrated logits, the members' mean divided by the temperature.

        Args:
            images_NHWC: uint8 (n, px, px, 3) RGB; n may be 0. Threads may call at the same time.

        Returns:
            float64 (n, K), or (n, 1) for a sigmoid.

        Raises:
            DataError: pixels of another type or shape.
        """
        ...


@dataclass(frozen=True)
class _MembersEngine:
    """An `Engine` made of one function a member: uint8 (B, 3, H, W) -> float (B, K), on the CPU."""

    name: str
    classes: tuple[str, ...]
    output: Output
    image_px: int
    notes: tuple[str, ...]
    temperature: float
    at_once: int
    tta: bool
    forwards: tuple[Callable[[Tensor], Tensor], ...] = field(repr=False)

    def logits(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        expected = (self.image_px, self.image_px, 3)
        if images_NHWC.dtype != np.uint8 or images_NHWC.shape[1:] != expected:
            raise DataError(
                f"Expected uint8 pixels of shape (n, {', '.join(map(str, expected))}), got "
                f"{images_NHWC.dtype} {images_NHWC.shape}."
            )
        answers = np.empty((len(images_NHWC), 1 if self.output == "sigmoid" else len(self.classes)))
        # torch complains about arrays that cannot be written to, such as those of a file.
        own = images_NHWC if images_NHWC.flags.writeable else images_NHWC.copy()
        images = torch.from_numpy(own).permute(0, 3, 1, 2)
        for start in range(0, len(images), self.at_once):
            some = slice(start, start + self.at_once)
            answers[some] = self._mean(images[some]).numpy()
        return answers / self.temperature

    def _mean(self, images: Tensor) -> Tensor:
        views = (view(images, name) for name in VIEWS) if self.tta else (images,)
        said = [forward(seen).double() for seen in views for forward in self.forwards]
        return torch.stack(said).mean(dim=0)


def make_engine(
    model: LoadedModel,
    kind: Kind = "torch",
    *,
    device: str = "cpu",
    threads: int | None = None,
    tta: bool = False,
) -> Engine:
    """Prepare a model for many images; takes a second a member, with ONNX some seconds.

    Args:
        model: what `read_model_folder` returned; it is not changed.
        kind: "torch", or "onnx" for ONNX Runtime on the CPU (extra `onnx`).
        device: "cpu", "cuda", "cuda:1", "mps"; ONNX Runtime knows only "cpu" here.
        threads: CPU threads of one call of `logits`; None leaves the library's choice, all cores.
            torch has one such number for the whole process, and it is set here. 1 is right for
            `pipeline.decode_and_predict`, which makes several calls at the same time.
        tta: answer with the mean of the logits of all eight `VIEWS`, for eight times the work.

    Raises:
        EngineError: an unknown kind, ONNX on another device, the extra is not installed, the model
            cannot be exported, or ONNX Runtime gives other answers than torch.
        DeviceError: see `torch_forwards`.
    """
    if kind not in KINDS:
        raise EngineError(f"Expected the engine torch or onnx, got {kind!r}.")
    if threads is not None and threads < 1:
        raise EngineError(f"Expected 1 thread or more, got {threads}.")
    notes: tuple[str, ...] = ()
    if kind == "onnx":
        if device != "cpu":
            raise EngineError(
                f"Expected the device cpu for the engine onnx, got {device!r}; use the engine "
                "torch on other devices."
            )
        forwards = onnx_forwards(model.members, model.spec.image_px, threads)
        _assert_parity(model, forwards)
    else:
        if threads is not None:
            torch.set_num_threads(threads)
        forwards, notes = torch_forwards(
            model.members, model.spec.image_px, model.spec.output, model.temperature, device
        )
    return _MembersEngine(
        name=kind,
        classes=model.spec.classes,
        output=model.spec.output,
        image_px=model.spec.image_px,
        notes=notes,
        temperature=model.temperature,
        at_once=_AT_ONCE["cpu" if device == "cpu" else "other"],
        tta=tta,
        forwards=tuple(forwards),
    )


def engine_probabilities(
    logits: npt.NDArray[np.float64], output: Output
) -> npt.NDArray[np.float64]:
    """Probabilities float64 (n, K) of an engine's logits; see `models.build.probabilities`."""
    answers: npt.NDArray[np.float64] = probabilities(torch.from_numpy(logits), output).numpy()
    return answers


def _assert_parity(model: LoadedModel, forwards: Sequence[Callable[[Tensor], Tensor]]) -> None:
    """Refuse functions that do not say what the members say."""
    for images in fixed_images(model.spec.image_px):
        for member, forward in zip(model.members, forwards, strict=True):
            plain = answers_of(member, images)
            why = difference(plain, forward(images), model.spec.output, model.temperature)
            if why is not None:
                raise EngineError(
                    f"Expected ONNX Runtime to answer as torch does for {model.spec.name}, got "
                    f"{why}; use the engine torch."
                )
