"""Forward functions in ONNX Runtime, on the CPU.

The graph takes uint8 pixels as they are decoded, (n, px, px, 3), and normalises by itself, so that
nothing can be done differently before it. It lives in memory and is no part of a model folder.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from histo_mlflow.device import available_cores
from histo_mlflow.errors import EngineError

Forward = Callable[[Tensor], Tensor]


def onnx_forwards(
    members: Sequence[nn.Module], image_px: int, threads: int | None
) -> list[Forward]:
    """One function a member: uint8 (B, 3, H, W) -> float32 (B, K), on the CPU; not yet checked.

    Args:
        members: in eval mode on the CPU; they are not changed.
        image_px: side of the images.
        threads: of one call; None for all cores.

    Raises:
        EngineError: the extra is not installed, or a member cannot be exported.
    """
    try:
        import onnx  # noqa: F401 -- the exporter would miss it only later, and not in plain words
        import onnxruntime  # type: ignore[import-untyped]
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EngineError(
            "Expected the extra onnx for the engine onnx, but it is not installed "
            f"({error}): run pip install 'histo-mlflow[onnx]', or use the engine torch."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = 3
    forwards = []
    for member in members:
        try:
            graph = _exported(member, image_px)
            session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            raise EngineError(
                f"Expected a model that ONNX can hold, got one that it cannot ({reason}); "
                "use the engine torch."
            ) from error
        forwards.append(_forward(session))
    return forwards


class _ColoursLast(nn.Module):
    """The member for images in the order in which they are decoded."""

    def __init__(self, member: nn.Module) -> None:
        super().__init__()
        self.member = member

    def forward(self, images_NHWC: Tensor) -> Tensor:
        logits: Tensor = self.member(images_NHWC.permute(0, 3, 1, 2))
        return logits


def _exported(member: nn.Module, image_px: int) -> bytes:
    """The member as an ONNX graph for any number of images."""
    example = torch.zeros((2, image_px, image_px, 3), dtype=torch.uint8)
    level = logging.root.manager.disable
    # The exporter tells its progress on stdout and by logging; what fails is raised.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _ColoursLast(member).eval(),
                (example,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("images")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        logging.disable(level)
    if program is None:
        raise EngineError("the exporter returned nothing")
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _forward(session: Any) -> Forward:
    def forward(images: Tensor) -> Tensor:
        pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
        return torch.from_numpy(session.run(["logits"], {"images": pixels})[0])

    return forward
