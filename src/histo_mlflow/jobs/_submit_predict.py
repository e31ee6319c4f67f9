"""The probability of one class for each image that a sample submission asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from histo_mlflow.data.findings import SHOWN, counted
from histo_mlflow.data.sources._files import image_files
from histo_mlflow.device import available_cores, plan_device
from histo_mlflow.errors import DataError
from histo_mlflow.inference.engine import make_engine
from histo_mlflow.inference.kaggle import Sample, match_images, positive_class
from histo_mlflow.inference.pipeline import decode_and_predict
from histo_mlflow.jobs.find_model import FoundModel
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry.model_folder import read_model_folder

TEST = "test"


@dataclass(frozen=True)
class Wanted:
    """How a submission is made.

    Attributes:
        positive: the class whose probability is asked for; None: see `positive_class`.
        tta: ask for eight views of each image.
        engine: what computes.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        log: note the submission at the run that the model is from.
    """

    positive: str | None = None
    tta: bool = False
    engine: Literal["torch", "onnx"] = "torch"
    device: str = "auto"
    log: bool = True


@dataclass(frozen=True, eq=False)
class Images:
    """What is to be predicted.

    Attributes:
        folder: of the images.
        paths: below it, by id, in the order of the sample.
        unused: images in it that no id names.
    """

    folder: Path
    paths: Mapping[str, str]
    unused: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Asked:
    """What a model said.

    Attributes:
        probabilities: float64 (n,), in the order of the sample.
        positive: the class that they are of.
        facts: provenance of the model.
    """

    probabilities: npt.NDArray[np.float64]
    positive: str
    facts: Mapping[str, Any]


def find_images(asked: Sample, data_dir: Path) -> Images:
    """Find the image of each id, in `test/` where there is such a folder.

    Raises:
        DataError: no such folder, images missing, or two for one id.
    """
    folder = data_dir / TEST if (data_dir / TEST).is_dir() else data_dir
    if not folder.is_dir():
        raise DataError(f"Expected a folder of images at {folder}, got none")
    paths, unused = match_images(asked, image_files(folder, [""])["path"].tolist(), folder)
    return Images(folder, paths, tuple(unused))


def ask(found: FoundModel, images: Images, wanted: Wanted, *, talk: Talk) -> Asked:
    """Predict the images with a bar of progress.

    Raises:
        DataError: no such class; or images that cannot be read, all of them counted.
        EngineError: the engine is not there, or gives other answers than the plain model.
        ModelFolderError: see `read_model_folder`.
    """
    model = read_model_folder(found.folder)
    which = positive_class(model.spec.classes, wanted.positive)
    positive = model.spec.classes[which]
    talk.say("model", f"{found.version}: p({positive}) of {', '.join(model.spec.classes)}")
    # Both are cheap to get wrong and dear to find out after an hour.
    device = plan_device(wanted.device if wanted.engine == "torch" else "cpu", "fp32").device
    engine = make_engine(model, wanted.engine, device=device, threads=1, tta=wanted.tta)
    for note in engine.notes:
        talk.say("model", note)
    items = (
        (name, partial((images.folder / path).read_bytes)) for name, path in images.paths.items()
    )
    answers, bad = np.empty(len(images.paths)), []
    answered = decode_and_predict([(engine, model.rule)], items, threads=available_cores())
    with tqdm(
        total=len(images.paths), unit="img", desc="predict", disable=not talk.bars, leave=False
    ) as bar:
        for row, one in enumerate(answered):
            if one.probabilities is None:
                bad.append(f"{one.key}: {one.reason}")
            else:
                answers[row] = one.probabilities[which]
            bar.update()
    if bad:
        more = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
        raise DataError(
            f"{counted(len(bad), 'image')} of {len(images.paths):,} in {images.folder} cannot be "
            f"predicted, and a submission has a row for each: {'; '.join(bad[:SHOWN])}{more}"
        )
    return Asked(answers, positive, model.facts)
