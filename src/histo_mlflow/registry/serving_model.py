"""The model as MLflow serves it. MLflow runs this file itself ("models from code"), no pickle.

A request is a table with the column `image`, one image a row. A value is one of

- the bytes of a JPEG, PNG or TIFF: in a DataFrame or in Parquet; JSON and CSV cannot carry bytes;
- their base64 text (standard alphabet, padded; line breaks and blanks are passed over), as text or
  as ASCII bytes. No image file is valid base64: each of the three formats has a byte outside of
  that alphabet among its first four;
- a data address as a browser makes it, `data:image/png;base64,...`; what the image is, its bytes
  tell. Nothing else with a colon is taken: an address or a path is never opened;
- a list of one such value, which is what `inputs: [[a], [b]]` makes of a table of one column.

The signature calls the column a string. Were it binary, MLflow would decode the base64 of
`dataframe_split` and `dataframe_records` itself, and pass over letters that are none of base64: a
text with a wrong letter in it became other bytes, which a JPEG decoder takes for a picture. It
would also refuse null, a number or cut off base64 without saying in which row. A string arrives
here as it was sent; bytes in Parquet or in a DataFrame pass through as well.

What MLflow's scoring server makes of the forms of JSON:

| sent | arrives as |
|---|---|
| `dataframe_split`, `dataframe_records` | the values themselves |
| `inputs`, `instances`: `[a, b]`, `{"image": [a, b]}`, `[{"image": a}, {"image": b}]` | texts |
| `inputs`, `instances`: `{"image": a}` | one row |
| `inputs`, `instances`: `[[a], [b]]` | lists of one text |
| numbers, null and dictionaries in `inputs` and `instances` | their text ("5", "None"), refused |
| one text that is not in a list | refused by MLflow: it has no column |

The answer is `answer.answer_table`: the likeliest class, the calibrated probability of each class,
whether the model abstains, and which model it was.
"""

import base64
import binascii
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from histo_mlflow.errors import HistoMlflowError, ImageError
from histo_mlflow.registry.answer import answer_table
from histo_mlflow.registry.predictor import BadImagesError, Predictor

COLUMN = "image"
ARTIFACT = "model_folder"
REGISTERED = "registered_model_meta"
"""The file in which MLflow notes what a model was fetched as from the registry."""
_BLANKS = b" \t\r\n"
_NOT_BASE64 = "the text is not base64"
_DATA_ADDRESS = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)
_NO_TEXT = re.compile(rb"[^\t\n\r -~]")
_LOOKED_AT = 4  # bytes: each format has one that is no text among them
logger = logging.getLogger(__name__)


class PatchClassifier(PythonModel):  # type: ignore[misc, unused-ignore]
    """A model folder behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model folder that was logged along, onto the GPU where there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = Path(context.artifacts[ARTIFACT])
        self._predictor = Predictor(folder, device)
        self._version = version_of(folder.parent.parent, self._predictor.digest)

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
            return answer(self._predictor, images, self._version)
        except HistoMlflowError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        except Exception as error:  # such as a GPU out of memory
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
    for index, value in enumerate(_values(table)):
        try:
            images.append(image_bytes(value))
        except ImageError as error:
            problems.append((index, str(error)))
    if problems:
        raise BadImagesError(problems, len(table))
    return images


def _values(table: pd.DataFrame) -> list[Any]:
    column = table[COLUMN]
    if not isinstance(column, pd.Series):
        raise ImageError(f"one column {COLUMN!r} was expected, got {column.shape[1]} of that name")
    return list(column)


def image_bytes(value: object) -> bytes:
    """The encoded image that a value of the column `image` stands for; see above.

    Raises:
        ImageError: the reason why it is none; it never holds the value itself.
    """
    if isinstance(value, list | tuple | np.ndarray) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return data if _NO_TEXT.search(data[:_LOOKED_AT]) else _decoded(data, data)
    if not isinstance(value, str):
        raise ImageError(f"bytes or base64 text was expected, got {_kind(value)}")
    if (address := _DATA_ADDRESS.match(value)) is not None:
        value = value[address.end() :]
    try:
        return _decoded(value.encode("ascii"))
    except UnicodeEncodeError as error:
        raise ImageError(_NOT_BASE64) from error


def _decoded(text: bytes, otherwise: bytes | None = None) -> bytes:
    """Decode base64; `otherwise` is returned where it is none, if there is that."""
    try:
        return base64.b64decode(text.translate(None, delete=_BLANKS), validate=True)
    except binascii.Error as error:
        if otherwise is not None:
            return otherwise
        raise ImageError(_NOT_BASE64) from error


def answer(predictor: Predictor, images: list[bytes], model_version: str) -> pd.DataFrame:
    """What `answer_table` makes of images, in the order of the request.

    Raises:
        BadImagesError: images that cannot be decoded.
    """
    return answer_table(
        predictor.classes,
        predictor.predict_bytes(images),
        abstain_below=predictor.abstain_below,
        model_version=model_version,
        model_digest=predictor.digest,
    )


def version_of(model: Path, digest: str) -> str:
    """The name of a model for its answers.

    Args:
        model: the folder of the MLflow model.
        digest: of the model folder in it.

    Returns:
        Name and version in the registry where it was fetched from there; else the id of the logged
        model; else the first digits of the digest.
    """
    noted = _noted(model / REGISTERED)
    name, version = noted.get("model_name"), noted.get("model_version")
    # MLflow writes the file for models:/m-... as well, with nothing in it.
    if name is not None and version is not None:
        return registered_version(name, version)
    return str(_noted(model / "MLmodel").get("model_id") or digest[:12])


def _noted(path: Path) -> dict[str, Any]:
    """What MLflow noted in a YAML file; nothing where there is none."""
    if not path.is_file():
        return {}
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def registered_version(name: str, version: object) -> str:
    """How a version in the registry is called, such as "histo-ham10000 v3"."""
    return f"{name} v{version}"


def _kind(value: object) -> str:
    if value is None or (isinstance(value, float) and value != value) or value is pd.NaT:
        return "nothing"
    if isinstance(value, list | tuple | np.ndarray):
        return f"a list of {len(value)}"
    return type(value).__name__


set_model(PatchClassifier())
