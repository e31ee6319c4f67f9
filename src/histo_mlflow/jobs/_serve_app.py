"""A model folder becomes the application that serves it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from histo_mlflow.inference.engine import Engine, Kind, engine_probabilities, make_engine
from histo_mlflow.inference.serving import payload
from histo_mlflow.inference.serving.app import Access, App
from histo_mlflow.inference.serving.explain import Explainer
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.inference.serving.model import PixelModel, ServedModel
from histo_mlflow.inference.serving.work import Ticket
from histo_mlflow.jobs.find_model import FoundModel
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule


@dataclass(frozen=True)
class OnnxModel:
    """ONNX Runtime as what a `ServedModel` asks; its answers were checked against the model's."""

    runtime: Engine
    classes: Sequence[str]
    rule: DecodeRule
    abstain_below: float
    digest: str

    def predict_pixels(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """uint8 (n, px, px, 3) RGB -> float64 (n, K)."""
        return engine_probabilities(self.runtime.logits(images_NHWC), self.runtime.output)


def make_app(
    found: FoundModel,
    limits: Limits,
    who: Access,
    *,
    device: str = "cpu",
    engine: Kind = "torch",
    threads: int = 0,
) -> App:
    """Load a model and put it behind the application; one image has been through it then.

    Args:
        found: the model.
        limits: what a request may cost.
        who: may ask.
        device: of torch.
        engine: "torch" computes as `Predictor` does, "onnx" with ONNX Runtime on the CPU.
        threads: of ONNX Runtime; 0 for its own choice.

    Raises:
        ModelFolderError: the model is not as it was written.
        EngineError: ONNX Runtime is not installed, or does not agree with the model.
    """
    predictor = Predictor(found.folder, device)
    answering: PixelModel = predictor
    if engine == "onnx":
        made = make_engine(read_model_folder(found.folder), "onnx", threads=threads or None)
        answering = OnnxModel(
            made, predictor.classes, predictor.rule, predictor.abstain_below, predictor.digest
        )
    explainer = Explainer(predictor.members, predictor.rule)
    model = ServedModel(answering, found.version, limits)
    side = max(256, predictor.rule.crop_px or 0)
    if side**2 <= limits.pixels:
        _warm_up(model, explainer, side)
    return App(model, explainer, limits, who, _about(predictor, explainer, found, limits))


def _about(
    predictor: Predictor, explainer: Explainer, found: FoundModel, limits: Limits
) -> dict[str, Any]:
    return {
        "version": found.version,
        "digest": predictor.digest,
        "architecture": predictor.spec.name,
        "members": len(predictor.facts["weights_sha256"]),
        "classes": list(predictor.classes),
        "image_px": predictor.spec.image_px,
        "calibrated": predictor.calibration is not None,
        "temperature": predictor.temperature,
        "abstain_below": predictor.abstain_below,
        "explains": explainer.why_not is None,
        "why_not": explainer.why_not,
        "limits": {
            "body_bytes": limits.body_bytes,
            "images": limits.images,
            "pixels": limits.pixels,
            "seconds": limits.seconds,
        },
    }


def _warm_up(model: ServedModel, explainer: Explainer, side: int) -> None:
    """Go every way once: the first request is slower than all others, and shows what is broken."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    image = file.getvalue()
    table = json.dumps({"inputs": [base64.b64encode(image).decode("ascii")]}).encode("ascii")
    for kind, body in (("image/png", image), ("application/json", table)):
        model.score(payload.media_type(kind), bytearray(body), Ticket(3600))
    if explainer.why_not is None:
        explainer.explain(image, 0, max_pixels=side**2)
