"""Fast forward functions in torch.

On a CPU a member is traced, and torch folds its batch norms into the convolutions, joins these
with their activations and keeps the weights in oneDNN's own layout. What was measured is in
`benchmarks/predict.py` and its table. The trace lives in memory and is never saved or loaded.
"""

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from histo_mlflow.errors import DeviceError
from histo_mlflow.inference._parity import answers_of, difference, fixed_images
from histo_mlflow.models.build import Output

Forward = Callable[[Tensor], Tensor]
# torch's executor watches the first runs and then settles on how it computes, which can change the
# last digit. It is settled before the first real image, so that equal images get equal answers.
_RUNS = 3


def torch_forwards(
    members: Sequence[nn.Module], image_px: int, output: Output, temperature: float, device: str
) -> tuple[list[Forward], tuple[str, ...]]:
    """One function a member: uint8 (B, 3, H, W) -> float32 (B, K), both on the CPU.

    Args:
        members: in eval mode on the CPU; they are not changed.
        image_px: side of the images.
        output: "softmax" or "sigmoid".
        temperature: with which the answers are compared.
        device: "cpu", "cuda", "cuda:1", "mps".

    Returns:
        The functions, and notes on members that are computed plainly for being no good otherwise.

    Raises:
        DeviceError: torch does not know the device or it is not here.
    """
    forwards, notes = [], []
    for number, member in enumerate(members):
        if device != "cpu":
            forwards.append(_on_device(member, device))
            continue
        fast, why = _traced(member, image_px, output, temperature)
        if fast is None:
            fast = _plain(member)
            which = f"member {number} of " if len(members) > 1 else ""
            notes.append(f"{which}the model is computed plainly, not optimised: {why}")
        forwards.append(fast)
    return forwards, tuple(notes)


def _traced(
    member: nn.Module, image_px: int, output: Output, temperature: float
) -> tuple[Forward | None, str]:
    """The optimised member, or None and the reason."""
    checked = fixed_images(image_px)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # That tracing is old, and what it thinks of Python branches: the check below tells.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(member, checked[0].contiguous(), check_trace=False)  # type: ignore[no-untyped-call]
            fast = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    except Exception as error:  # noqa: BLE001 -- of whatever kind, it costs speed and is told
        return None, _first_line(error)

    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return cast(Tensor, fast(images.contiguous()))

    for images in checked:
        plain = answers_of(member, images)
        for _ in range(_RUNS):
            try:
                why = difference(plain, forward(images), output, temperature)
            except RuntimeError as error:
                why = _first_line(error)
            if why is not None:
                return None, f"optimised it gives {why}"
    return forward, ""


def _plain(member: nn.Module) -> Forward:
    model = deepcopy(member).to(memory_format=torch.channels_last)

    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return cast(Tensor, model(images.contiguous(memory_format=torch.channels_last)))

    return forward


def _on_device(member: nn.Module, device: str) -> Forward:
    layout = torch.channels_last if device.startswith("cuda") else torch.contiguous_format
    try:
        model = deepcopy(member).to(device).to(memory_format=layout)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"Expected a device that torch can use here, got {device!r}: {_first_line(error)}"
        ) from error

    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            seen = images.to(device).contiguous(memory_format=layout)
            return cast(Tensor, model(seen).cpu())

    return forward


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
