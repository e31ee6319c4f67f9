"""Small model folders with random weights, and images of all three formats."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.vision.decode import DecodeRule


def encoded(seed: int, width: int = 48, height: int = 40, kind: str = "PNG") -> bytes:
    """Smooth colours with some noise: more like tissue than noise alone."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + rng.integers(-12, 13, smooth.shape, dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def many_images() -> list[bytes]:
    """140 images: 90x60 JPEG, 32x32 TIFF and 48x40 PNG in turn."""
    kinds = [(90, 60, "JPEG"), (32, 32, "TIFF"), (48, 40, "PNG")]
    return [encoded(seed, *kinds[seed % 3]) for seed in range(140)]


def write(
    folder: Path,
    classes: Sequence[str] = ("a", "b", "c"),
    *,
    model: str = "squeezenet1_1",
    output: str = "softmax",
    seeds: Sequence[int] = (1,),
    image_px: int = 32,
    fit: str = "cover",
    temperature: float | None = None,
) -> Path:
    """A model folder with a member a seed."""
    spec = specify(model, classes, image_px=image_px, output=output)
    weights = [folder.parent / f"{folder.name}-{seed}.safetensors" for seed in seeds]
    for path, seed in zip(weights, seeds, strict=True):
        save_weights(build(spec, seed=seed), path)
    write_model_folder(
        folder,
        spec=spec,
        rule=DecodeRule(image_px, fit),
        weights_paths=weights,
        calibration=None if temperature is None else {"temperature": temperature, "thresholds": {}},
        provenance={"run_id": "abc"},
    )
    return folder


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    return write


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model, an ensemble of two folds with a temperature, and one with a sigmoid."""
    top = tmp_path_factory.mktemp("models")
    return {
        "one": write(top / "one"),
        "folds": write(top / "folds", seeds=(1, 2), temperature=1.7),
        "sigmoid": write(top / "sigmoid", ("benign", "malignant"), output="sigmoid"),
        "batch norms": write(top / "norms", model="resnet18"),
    }
