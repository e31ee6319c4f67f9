"""A `LoopState` as named tensors and JSON, and back.

Tensors come back in the memory format of what they are loaded into: torch's fused optimisers walk
parameter, gradient and state side by side in memory, so a state in another layout would be applied
to the wrong weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from histo_mlflow.errors import ResumeError
from histo_mlflow.training.state import LoopState, Progress


def pack(state: LoopState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every tensor on the CPU in plain layout, by name, and all the rest as JSON values."""
    tensors = {f"model/{name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.ema is not None:
        tensors |= {f"ema/{name}": value for name, value in state.ema.model.state_dict().items()}
    saved = state.optimiser.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, entries in saved["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    for index, parameter in enumerate(_parameters(state)):
        if parameter.grad is not None:
            tensors[f"gradient/{index}"] = parameter.grad
    progress = state.progress
    if progress.losses:
        tensors["progress/losses"] = torch.stack(progress.losses)
        tensors["progress/logits"] = torch.cat(progress.logits)
    facts: dict[str, Any] = {
        "epoch": state.epoch,
        "step": progress.steps,
        "seconds": progress.seconds,
        "waited": progress.waited,
        "history": state.history,
        "stopping": {
            "best_value": state.stopping.best_value,
            "best_epoch": state.stopping.best_epoch,
            "waited": state.stopping.waited,
        },
        "ema_updates": None if state.ema is None else state.ema.updates,
        "scaler": state.scaler.state_dict(),
        "optimiser_groups": saved["param_groups"],
        "optimiser_numbers": numbers,
        "micro_batch": state.micro_batch,
    }
    return {name: _plain(tensor) for name, tensor in tensors.items()}, facts


def unpack(state: LoopState, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Put `state` where `pack` found it.

    Raises:
        ResumeError: the tensors are not those of this model and optimiser.
    """
    rest = set(tensors)
    state.model.load_state_dict(_under("model/", tensors, rest))
    if state.ema is not None:
        state.ema.load_state_dict(
            {"updates": facts["ema_updates"], "model": _under("ema/", tensors, rest)}
        )
    _load_optimiser(state, tensors, facts, rest)
    for index, parameter in enumerate(_parameters(state)):
        gradient = tensors.get(f"gradient/{index}")
        rest.discard(f"gradient/{index}")
        parameter.grad = None if gradient is None else _like(parameter, gradient)
    state.progress = _progress(state, tensors, facts)
    if rest := rest - {"progress/losses", "progress/logits"}:
        raise ResumeError(f"the checkpoint holds tensors of another training: {sorted(rest)[:5]}")
    state.scaler.load_state_dict(facts["scaler"])
    state.epoch, state.history = facts["epoch"], list(facts["history"])
    for name, value in facts["stopping"].items():
        setattr(state.stopping, name, value)
    state.micro_batch = facts["micro_batch"]


def _load_optimiser(
    state: LoopState, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], rest: set[str]
) -> None:
    entries: dict[int, dict[str, Any]] = {
        int(index): dict(numbers) for index, numbers in facts["optimiser_numbers"].items()
    }
    parameters = _parameters(state)
    for name in [name for name in rest if name.startswith("optimiser/")]:
        _, index, key = name.split("/")
        value, parameter = tensors[name], parameters[int(index)]
        rest.discard(name)
        entries.setdefault(int(index), {})[key] = (
            _like(parameter, value) if value.shape == parameter.shape else value
        )
    state.optimiser.load_state_dict({"state": entries, "param_groups": facts["optimiser_groups"]})


def _progress(
    state: LoopState, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Progress:
    done = Progress(facts["step"], seconds=facts["seconds"], waited=facts["waited"])
    if "progress/losses" in tensors:
        device = _parameters(state)[0].device
        done.losses = list(tensors["progress/losses"].to(device))
        done.logits = [tensors["progress/logits"].to(device)]
    return done


def _under(prefix: str, tensors: Mapping[str, Tensor], rest: set[str]) -> dict[str, Tensor]:
    names = [name for name in tensors if name.startswith(prefix)]
    rest.difference_update(names)
    return {name.removeprefix(prefix): tensors[name] for name in names}


def _parameters(state: LoopState) -> list[Tensor]:
    """In the order in which the optimiser numbers them."""
    return [p for group in state.optimiser.param_groups for p in group["params"]]


def _like(model: Tensor, value: Tensor) -> Tensor:
    """The values in the layout and on the device of `model`."""
    return torch.empty_like(model, dtype=value.dtype).copy_(value).detach()


def _plain(tensor: Tensor) -> Tensor:
    # Copies: safetensors knows no memory format and no shared storage.
    return tensor.detach().cpu().contiguous().clone()
