"""Small model folders, alone and logged, for tests outside of `tests/registry`."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.log_model import log
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect
from histo_mlflow.vision.decode import DecodeRule


def write(
    folder: Path, classes: Sequence[str] = ("normal", "tumour"), *, seed: int = 1, px: int = 32
) -> Path:
    """A model folder with random weights; squeezenet is small, and its random logits differ."""
    spec = specify("squeezenet1_1", classes, image_px=px)
    weights = folder.parent / f"{folder.name}-{seed}.safetensors"
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_weights(build(spec, seed=seed), weights)
    write_model_folder(
        folder,
        spec=spec,
        rule=DecodeRule(px),
        weights_paths=[weights],
        calibration=None,
        provenance={"run_id": "0" * 32},
        card="# Card",
    )
    return folder


def image(seed: int, kind: str = "TIFF", side: int = 40) -> bytes:
    """A whole file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def logged(folder: Path, uri: str) -> tuple[str, str]:
    """Log a model folder to a run of a store; the ids of run and model."""
    with start_run(connect(uri), "demo", "first", {}, {}, system_metrics=False) as run:
        return run.run_id, log(run, folder, image(0))
