"""The model as MLflow serves it. MLflow runs this file itself ("models from code"), no pickle.

A request is a table with the column `image`: the bytes of a JPEG, PNG or TIFF, or their base64
text. MLflow decodes base64 for `dataframe_split` and `dataframe_records` only; for `inputs` and
`instances` the text arrives here, as ASCII bytes. No image file is valid base64: each of the three
formats has a byte outside of that alphabet among its first four.

The answer has the column `class` and one column `p_<class>` for each class.
"""

import base64
import binascii
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from histo_mlflow.errors import HistoMlflowError, ImageError
from histo_mlflow.registry.predictor import BadImagesError, Predictor

COLUMN = "image"
ARTIFACT = "model_folder"
logger = logging.getLogger(__name__)


class PatchClassifier(PythonModel):  # type: ignore[misc, unused-ignore]
    """A model folder behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model folder that was logged along, onto the GPU where there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._predictor = Predictor(Path(context.artifacts[ARTIFACT]), device)

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Classify the images of a table.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (HTTP 400) for images that cannot be used, by
                row and without a path; any other exception would show the server's stack trace.
        """
        try:
            images = images_of(model_input)
            return answer_table(self._predictor, images)
        except HistoMlflowError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        except (RuntimeError, MemoryError) as error:  # such as a GPU out of memory
            logger.exception("the model failed")
            raise MlflowException(
                "the model failed on this request; the server's log says why", INTERNAL_ERROR
            ) from error


def images_of(table: pd.DataFrame) -> list[bytes]:
    """The encoded images of a request.

    Raises:
        ImageError: no column `image`, or values that are neither bytes nor base64.
    """
    if not isinstance(table, pd.DataFrame) or COLUMN not in table.columns:
        raise ImageError(
            f"a table with the column {COLUMN!r} was expected: the bytes of a JPEG, PNG or TIFF, "
            "or their base64 text"
        )
    images: list[bytes] = []
    problems: list[tuple[int, str]] = []
    for index, value in enumerate(table[COLUMN].tolist()):
        if isinstance(value, bytes | bytearray | memoryview):
            with suppress(binascii.Error):
                value = base64.b64decode(value, validate=True)
            images.append(bytes(value))
        elif isinstance(value, str):
            try:
                images.append(base64.b64decode(value, validate=True))
            except (binascii.Error, ValueError):
                problems.append((index, "the text is not base64"))
        else:
            problems.append((index, f"bytes or base64 text was expected, got {_kind(value)}"))
    if problems:
        raise BadImagesError(problems, len(table))
    return images


def answer_table(predictor: Predictor, images: list[bytes]) -> pd.DataFrame:
    """Most probable class and probabilities, one row an image, in the order of the request."""
    probabilities = predictor.predict_bytes(images)
    names = [predictor.classes[k] for k in probabilities.argmax(axis=1)]
    answer = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in predictor.classes])
    answer.insert(0, "class", pd.Series(names, dtype="object"))
    return answer


def _kind(value: object) -> str:
    return "nothing" if value is None or value != value else type(value).__name__


set_model(PatchClassifier())
