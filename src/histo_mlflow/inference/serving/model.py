"""The verified model folder behind MLflow's scoring.

What a logged model brings along is its own code, which `mlflow.pyfunc.load_model` runs. Here only
its model folder is used, which holds none; MLflow's scoring gets a `PyFuncModel` made in memory
around it, with the signature that logging writes. So requests are parsed, held against the
signature and answered by the functions that `mlflow models serve` calls, without its application:
that one hands every request to a pool of threads from which nothing can be taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from io import StringIO
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from histo_mlflow.errors import ImageError, ModelError
from histo_mlflow.inference.serving import parquet, payload
from histo_mlflow.inference.serving.answers import RefusedError
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.inference.serving.work import Ticket
from histo_mlflow.registry.answer import answer_table
from histo_mlflow.registry.log_model import signature
from histo_mlflow.registry.predictor import BATCH_IMAGES, BadImagesError
from histo_mlflow.registry.serving_model import COLUMN, images_of
from histo_mlflow.vision.decode import DecodeRule, decode

logger = logging.getLogger(__name__)


class PixelModel(Protocol):
    """What turns pixels into calibrated probabilities; `registry.predictor.Predictor` is one."""

    @property
    def classes(self) -> Sequence[str]:
        """K names."""

    @property
    def rule(self) -> DecodeRule:
        """How bytes become pixels."""

    @property
    def abstain_below(self) -> float:
        """The model abstains where its greatest probability is below this."""

    @property
    def digest(self) -> str:
        """Of the model folder."""

    def predict_pixels(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """uint8 (n, px, px, 3) RGB -> float64 (n, K)."""


class ServedModel:
    """Answers request bodies; called in the threads that compute.

    Args:
        engine: the model.
        version: what it is called in its answers.
        limits: what a request may cost.
    """

    def __init__(self, engine: PixelModel, version: str, limits: Limits) -> None:
        from mlflow.models import Model

        self.engine, self.version, self._limits = engine, version, limits
        flavor = {"python_function": {"loader_module": __name__}}
        self._meta = Model(signature=signature(engine.classes), flavors=flavor)
        self._schema = self._meta.get_input_schema()  # type: ignore[no-untyped-call]

    def score(self, kind: payload.MediaType, body: bytearray, ticket: Ticket) -> tuple[bytes, int]:
        """What MLflow answers to a body, as JSON, and to how many images.

        Raises:
            RefusedError: it is not understood, holds too much, takes too long, or the model failed.
            BadImagesError: images that cannot be used, by row.
            GoneError: nobody waits any more.
        """
        ticket.check()
        if kind.name == payload.JSON:
            table: Any = payload.json_table(body, self._limits)
            return self._invoke(table, kind.name, ticket)
        if kind.name == payload.CSV:
            payload.check_csv(body, self._limits)
            return self._invoke(bytes(body), kind.name, ticket)
        if kind.name in payload.PARQUET:
            images: list[bytes | None] = parquet.images_of(body, self._limits, ticket.left)
        else:
            images = [bytes(body)]
        answer = self.answer(pd.DataFrame({COLUMN: images}, dtype=object), ticket)
        return self._as_json(answer), len(answer)

    def answer(self, table: pd.DataFrame, ticket: Ticket) -> pd.DataFrame:
        """The answer to a table of images; `score` is this behind MLflow.

        Raises:
            RefusedError: too many images, too late, or the model failed.
            BadImagesError: images that cannot be used.
            GoneError: nobody waits any more.
        """
        payload.check_count(len(table), self._limits)
        return answer_table(
            self.engine.classes,
            self._probabilities(images_of(table), ticket),
            abstain_below=self.engine.abstain_below,
            model_version=self.version,
            model_digest=self.engine.digest,
        )

    def _probabilities(self, images: Sequence[bytes], ticket: Ticket) -> npt.NDArray[np.float64]:
        """As `Predictor.predict_bytes`, in the same batches, with a look at the ticket between."""
        engine, limits = self.engine, self._limits
        answers = np.empty((len(images), len(engine.classes)))
        problems: list[tuple[int, str]] = []
        for start in range(0, len(images), BATCH_IMAGES):
            pixels = []
            for index, data in enumerate(images[start : start + BATCH_IMAGES], start):
                ticket.check()
                try:
                    pixels.append(decode(data, engine.rule, max_pixels=limits.pixels))
                except ImageError as error:
                    problems.append((index, str(error)))
            if not problems:
                ticket.check()
                answers[start : start + len(pixels)] = self._forward(np.stack(pixels))
        if problems:
            raise BadImagesError(problems, len(images))
        return answers

    def _forward(self, pixels_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        try:
            found = self.engine.predict_pixels(pixels_NHWC)
        except (MemoryError, torch.OutOfMemoryError) as error:
            logger.exception("out of memory")
            raise RefusedError(
                503, "memory", "The server is out of memory: send fewer images at once."
            ) from error
        except ModelError as error:
            logger.exception("the model answered NaN")
            raise RefusedError(500, "model", "The model gives no number for an image.") from error
        return found

    def _invoke(self, data: Any, content_type: str, ticket: Ticket) -> tuple[bytes, int]:
        """MLflow's scoring of a body that was judged already."""
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc import PyFuncModel, scoring_server

        scored = _Scored(self, ticket)
        try:
            result = scoring_server.invocations(  # type: ignore[no-untyped-call]
                data, content_type, PyFuncModel(self._meta, scored), self._schema
            )
        except MlflowException as error:
            # Its own message holds the request, a stack trace and paths.
            raise scored.failure or _not_understood(content_type) from error
        if result.status != 200:
            raise _not_understood(content_type)
        return result.response.encode("utf-8"), scored.images

    def _as_json(self, answer: pd.DataFrame) -> bytes:
        from mlflow.pyfunc import scoring_server

        text = StringIO()
        scoring_server.predictions_to_json(answer, text)  # type: ignore[no-untyped-call]
        return text.getvalue().encode("utf-8")


class _Scored:
    """One request's view of the model, for MLflow; keeps what MLflow would make a text of."""

    def __init__(self, model: ServedModel, ticket: Ticket) -> None:
        self._model, self._ticket = model, ticket
        self.failure: Exception | None = None
        self.images = 0

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """Called by MLflow with the table that it has made."""
        try:
            answer = self._model.answer(data, self._ticket)
        except Exception as error:
            self.failure = error
            raise
        self.images = len(answer)
        return answer


def _not_understood(content_type: str) -> RefusedError:
    if content_type == payload.CSV:
        return RefusedError(400, "csv", "The body is not CSV with a column 'image' of base64 text.")
    return RefusedError(400, "json", f"The body is not understood: {payload.EXPECTED}.")
