"""Model folders and image folders that cost milliseconds."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.vision.decode import DecodeRule

CLASSES = ("bkl", "mel", "nv")
KINDS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}


def write_model(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    *,
    model: str = "test_resnet",
    output: str = "softmax",
    seed: int = 1,
    temperature: float | None = 1.5,
    abstain: Mapping[str, Any] | None = None,
) -> Path:
    """A model folder with random weights, whose logits differ from image to image."""
    spec = specify(model, classes, image_px=32, output=output)
    weights = folder.parent / f"{folder.name}.safetensors"
    made = build(spec, seed=seed)
    made.head.get_parameter("1.weight").data.mul_(30)
    save_weights(made, weights)
    write_model_folder(
        folder,
        spec=spec,
        rule=DecodeRule(32),
        weights_paths=[weights],
        calibration=None if temperature is None else {"temperature": temperature, "thresholds": {}},
        provenance={"run_id": "abc"},
        abstain=abstain,
    )
    return folder


def image_bytes(seed: int, suffix: str = "png", side: int = 40) -> bytes:
    """An image of a flat colour with noise."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, 3) + random.integers(-40, 41, (side, side + 8, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, KINDS[suffix])
    return file.getvalue()


def write_images(folder: Path, n: int) -> list[str]:
    """n images in two folders, of all three formats; their ids in order."""
    ids = []
    for seed in range(n):
        suffix = list(KINDS)[seed % 3]
        path = folder / f"slide{seed % 2}" / f"{seed:04d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(seed, suffix))
        ids.append(path.relative_to(folder).as_posix())
    return sorted(ids)
