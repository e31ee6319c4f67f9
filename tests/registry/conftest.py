"""A small model folder with random weights, images for it, and a store to log it to."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.vision.decode import DecodeRule


def encoded(seed: int, side: int = 40, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    return [encoded(0), encoded(1, 64, "JPEG"), encoded(2, 33, "TIFF"), encoded(3)]


def write(
    folder: Path,
    classes: Sequence[str] = ("a", "b&c", "d e"),
    *,
    model: str = "squeezenet1_1",
    output: str = "softmax",
    seeds: Sequence[int] = (1,),
    calibration: Mapping[str, Any] | None = None,
    card: str | None = None,
    abstain: Any = None,
) -> Path:
    """A model folder with a member a seed; squeezenet is small, and its random logits differ."""
    spec = specify(model, classes, image_px=32, output=output)
    weights = [folder.parent / f"{folder.name}-{seed}.safetensors" for seed in seeds]
    for path, seed in zip(weights, seeds, strict=True):
        save_weights(build(spec, seed=seed), path)
    write_model_folder(
        folder,
        spec=spec,
        rule=DecodeRule(32),
        weights_paths=weights,
        calibration=calibration,
        provenance={"run_id": "abc", "metrics": {"test/auc": 0.9}},
        abstain=abstain,
        card=card,
    )
    return folder


@pytest.fixture(scope="session")
def write_folder() -> Callable[..., Path]:
    return write


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "model", model="resnet18")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackedRun]:
    """A run in a SQLite store, with a point at the steps 0 and 1."""
    folder = tmp_path_factory.mktemp("registry-store")
    store = connect(f"sqlite:///{folder / 'mlflow.db'}")
    with start_run(store, "demo", "first", {"lr": 0.1}, {}, system_metrics=False) as started:
        started.log_epoch(0, {"val/auc": 0.7})
        started.log_epoch(1, {"val/auc": 0.8})
        assert started.flush() == 0
        yield started
