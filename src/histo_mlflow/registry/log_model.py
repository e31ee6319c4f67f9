"""Logging a model folder to MLflow, with the code that it needs.

The logged model holds the folder, the file `serving_model.py`, which MLflow runs to make the model,
and the parts of this package which that file leans on (`BUNDLED`). A server needs torch,
torchvision, timm, pillow, numpy, pandas, safetensors and mlflow, not histo-mlflow.
"""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import histo_mlflow
from histo_mlflow.errors import ParityError, TrackingError
from histo_mlflow.registry.answer import ABSTAIN, CLASS, DIGEST, VERSION
from histo_mlflow.registry.model_folder import folder_digest
from histo_mlflow.registry.parity import Sample, check
from histo_mlflow.registry.predictor import Predictor

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

BUNDLED = ("__init__.py", "errors.py", "randomness.py", "vision", "models", "registry")
REQUIREMENTS = (
    "torch",
    "torchvision",
    "timm",
    "pillow",
    "numpy",
    "pandas",
    "safetensors",
    "mlflow",
)


class Run(Protocol):
    """The run that made the model; `tracking.run.TrackedRun` is one."""

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""

    @property
    def tracking_uri(self) -> str:
        """The store that both are in."""


DIGEST_TAG = "histo.model.sha256"
PARITY_TAG = "histo.model.parity"
"""The largest difference that `assert_parity` saw; there on a model that it was asked of."""


def log_once(
    run: Run, folder: Path, example_image: bytes, *, sample: Sample | None = None, step: int = 0
) -> str:
    """`log`, unless the run has this very model already; then that one's id.

    A model of the run that was begun and not finished is deleted: a killed process leaves one, and
    so does a server whose answer got lost, which MLflow asks for a model once more. Another
    calibration or other members make another model (`folder_digest`).

    Args:
        run: where it came from.
        folder: from `write_model_folder`.
        example_image: a JPEG, PNG or TIFF.
        sample: what the model in the store must agree with, once; None: nothing is asked.
        step: the epoch that the weights are from.

    Raises:
        ModelFolderError: see `read_model_folder`.
        ImageError: the example cannot be decoded.
        ParityError: see `parity.check`; the model is deleted.
        TrackingError: the store failed.
    """
    digest = folder_digest(folder)
    model_id = _settled(run, digest)
    if model_id is None:
        model_id = log(run, folder, example_image, step=step, tags={DIGEST_TAG: digest})
        _settled(run, digest)
    if sample is not None:
        assert_parity(run, model_id, sample)
    return model_id


def assert_parity(run: Run, model_id: str, sample: Sample) -> None:
    """Load a model from the store as a server would and hold it against a sample, once.

    Raises:
        ParityError: see `parity.check`; the model is deleted, so that nobody serves it.
        TrackingError: the store failed.
    """
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=run.tracking_uri)
    try:
        if PARITY_TAG in client.get_logged_model(model_id).tags:
            return
        with _mlflow_settings(run.tracking_uri), _search_path_kept():
            model = mlflow.pyfunc.load_model(f"models:/{model_id}")
            columns = model.metadata.get_output_schema().input_names()
            classes = [name[2:] for name in columns if name.startswith("p_")]
            apart = check(model.predict, classes, sample)
        client.set_logged_model_tags(model_id, {PARITY_TAG: f"{apart:.2g}"})
    except ParityError:
        client.delete_logged_model(model_id)
        raise
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"the model {model_id} could not be read back: {str(error).splitlines()[0]}"
        ) from error


def _settled(run: Run, digest: str) -> str | None:
    """Delete the run's unfinished models; the id of the finished one with this digest."""
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelStatus
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=run.tracking_uri)
    found = None
    try:
        models = client.search_logged_models(
            experiment_ids=[run.experiment_id],
            filter_string=f"source_run_id = '{run.run_id}'",
        )
        for model in models:
            if model.status != LoggedModelStatus.READY:
                client.delete_logged_model(model.model_id)
            elif model.tags.get(DIGEST_TAG) == digest:
                found = str(model.model_id)
    except MlflowException as error:
        raise TrackingError(
            f"the models of run {run.run_id} could not be listed: {str(error).splitlines()[0]}"
        ) from error
    return found


def log(
    run: Run,
    folder: Path,
    example_image: bytes,
    *,
    name: str = "model",
    step: int = 0,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Log a model folder as a pyfunc from code, attached to a run.

    Args:
        run: where it came from.
        folder: from `write_model_folder`; read and tried on the example before anything is sent.
        example_image: a JPEG, PNG or TIFF; becomes the input example, so it leaves this machine
            with the model.
        name: of the logged model within the run.
        step: the epoch that the weights are from; MLflow copies the run's metrics of that step.
        tags: of the logged model.

    Returns:
        The model's id: it is loaded and served as `models:/<id>`.

    Raises:
        ModelFolderError: see `read_model_folder`.
        ImageError: the example cannot be decoded.
        TrackingError: the store failed.
    """
    import mlflow.pyfunc
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    from histo_mlflow.registry.serving_model import ARTIFACT, COLUMN

    client = MlflowClient(tracking_uri=run.tracking_uri)
    with _mlflow_settings(run.tracking_uri), tempfile.TemporaryDirectory() as scratch:
        # MLflow names the artifact after the folder that it copies.
        settled = Path(shutil.copytree(folder, Path(scratch) / ARTIFACT, symlinks=True))
        predictor = Predictor(settled)
        predictor.predict_bytes([example_image])
        try:
            # Model.log would put it into the default experiment: it looks at the fluent run only.
            made = client.create_logged_model(
                run.experiment_id,
                name=name,
                source_run_id=run.run_id,
                tags=dict(tags or {}),
                model_type="image-classifier",
            )
            Model.log(
                artifact_path=None,
                flavor=mlflow.pyfunc,
                name=name,
                run_id=run.run_id,
                model_id=made.model_id,
                step=step,
                python_model=str(Path(__file__).with_name("serving_model.py")),
                artifacts={ARTIFACT: str(settled)},
                code_paths=[str(bundle(Path(scratch)))],
                signature=signature(predictor.classes),
                input_example=pd.DataFrame({COLUMN: [example_image]}),
                pip_requirements=requirements(),
            )
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"the model could not be logged to run {run.run_id}: {str(error).splitlines()[0]}"
            ) from error
    return str(made.model_id)


def signature(classes: Sequence[str]) -> "ModelSignature":
    """One column in, bytes or base64 text; out comes what `answer_table` makes.

    `serving_model` says why the column is a string and not binary.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    answer: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, CLASS),
        *(ColSpec(DataType.double, f"p_{name}") for name in classes),
        ColSpec(DataType.boolean, ABSTAIN),
        ColSpec(DataType.string, VERSION),
        ColSpec(DataType.string, DIGEST),
    ]
    return ModelSignature(Schema([ColSpec(DataType.string, "image")]), Schema(answer))


def requirements() -> list[str]:
    """What a server installs, at the versions of this environment.

    Without the local part of a version ("+cpu"), which the package index does not know.
    """
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def bundle(folder: Path) -> Path:
    """Copy the part of this package that a served model needs to `folder/histo_mlflow`."""
    source, target = Path(histo_mlflow.__file__).parent, folder / "histo_mlflow"
    target.mkdir()
    for name in BUNDLED:
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source / name, target / name, ignore=ignored)
        else:
            shutil.copyfile(source / name, target / name)
    return target


@contextmanager
def _search_path_kept() -> Iterator[None]:
    """Undo what loading a model does to `sys.path`: it puts the code that came along first."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _mlflow_settings(tracking_uri: str) -> Iterator[None]:
    """Point MLflow's global functions at a store, and put back what was there.

    `MLFLOW_UV_AUTO_DETECT`: in a folder with a `uv.lock`, MLflow would replace our requirements by
    those of whatever project lies there. Its talk and its bars of bytes are not for our users.
    """
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_UV_AUTO_DETECT", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    before = {name: os.environ.get(name) for name in names}
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    talk = logging.getLogger("mlflow")
    level = talk.level
    talk.setLevel(logging.WARNING)
    try:
        yield
    finally:
        talk.setLevel(level)
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
