"""Weights: pretrained ones into a fresh classifier, and our own to and from safetensors.

Whatever was asked for is loaded completely or refused. The one part a pretrained file may have and
the model may lack is the classifier of the original classes, and it is named in what is returned.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from histo_mlflow.errors import WeightsError
from histo_mlflow.models.backbones import module_names
from histo_mlflow.models.build import Classifier
from histo_mlflow.models.download import Remote, fetch, published


@dataclass(frozen=True)
class WeightsFacts:
    """Where a model's weights come from.

    Attributes:
        source: "none", the address of published weights, or the name of a file.
        sha256: digest of the file, None for "none".
        skipped: state dict keys that belong to the original classifier and were left out.
    """

    source: str
    sha256: str | None
    skipped: tuple[str, ...]


def load_pretrained(
    model: Classifier, weights: str, *, allow_download: bool = True
) -> WeightsFacts:
    """Fill the backbone of a classifier; its head keeps its random weights.

    Args:
        model: a fresh classifier.
        weights: "none"; "imagenet" for those that torchvision (its DEFAULT) or timm publish for
            the architecture; or the path of a .safetensors file or of a file written by
            `torch.save`, read with `weights_only=True`, holding the state dict of the whole
            architecture under torchvision's or timm's names.
        allow_download: whether "imagenet" may use the network; files in torch's hub folder are
            always used.

    Returns:
        What was loaded and what was left out.

    Raises:
        WeightsError: the weights cannot be had, or do not fit the backbone key for key and shape
            for shape. The model is then unchanged.
    """
    origin = origin_of(model.spec.name, weights)
    if origin is None:
        return WeightsFacts("none", None, ())
    if isinstance(origin, Remote):
        path, source = fetch(origin, allow_download=allow_download), origin.url
    else:
        path, source = origin, origin.name
    state = module_names(model.spec.name, read_state(path))
    skipped = _load_backbone(model, state, path.name)
    return WeightsFacts(source, file_sha256(path), skipped)


def origin_of(full: str, weights: str) -> Remote | Path | None:
    """Where `load_pretrained` would take weights from, None for "none"; nothing is read.

    Args:
        full: the full name of the architecture.
        weights: as `load_pretrained` takes it.

    Raises:
        WeightsError: nothing is published for the architecture, or there is no such file.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return published(full)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"weights must be imagenet, none or a file; there is no file {weights!r}."
        )
    return path


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or in a file of `torch.save`, on the CPU.

    Raises:
        WeightsError: the file is damaged, would run code when read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path.name} is not a plain file of weights: it holds objects that could run code, or "
            "it is damaged. Save it anew with torch.save(model.state_dict(), FILE) or as "
            "safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path.name} cannot be read as weights: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        found = (
            f"a mapping with the keys {', '.join(map(str, list(state)[:5]))}"
            if isinstance(state, Mapping)
            else type(state).__name__
        )
        raise WeightsError(
            f"{path.name} must hold a state dict (names to tensors); it holds {found}. "
            "Take the state dict out of the checkpoint and save it alone."
        )
    return {str(key): value for key, value in state.items()}


def weights_bytes(model: Classifier) -> bytes:
    """All weights of a classifier as the content of a safetensors file."""
    # Contiguous copies: safetensors knows no memory format and no shared storage.
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    return save(state)


def save_weights(model: Classifier, path: Path) -> None:
    """Write all weights of a classifier as safetensors, on whatever device they are."""
    path.write_bytes(weights_bytes(model))


def load_weights(model: Classifier, path: Path) -> None:
    """Load what `save_weights` wrote, strictly.

    Raises:
        WeightsError: the file cannot be read, or is of another model.
    """
    state = read_state(path)
    _compare(state, model.state_dict(), path.name, model.spec.name)
    model.load_state_dict(state)


def load_weights_bytes(model: Classifier, data: bytes, name: str) -> None:
    """Load the content of a file that `save_weights` wrote, strictly.

    Args:
        model: of the same spec.
        data: the whole file.
        name: of the file, for messages.

    Raises:
        WeightsError: it is no safetensors, of another model, or holds NaN, from which every answer
            would be NaN; the model is then unchanged.
    """
    try:
        state = load(data)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{name} cannot be read as weights: {error}") from error
    _compare(state, model.state_dict(), name, model.spec.name)
    if torn := [key for key, value in state.items() if bool(value.isnan().any())]:
        raise WeightsError(
            f"{name} holds numbers that are none: {'; '.join(_listed('with NaN', torn))}; train or "
            "fetch the model again"
        )
    model.load_state_dict(state)


def file_sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_backbone(
    model: Classifier, state: Mapping[str, Tensor], file_name: str
) -> tuple[str, ...]:
    prefixes = tuple(f"{prefix}." for prefix in model.classifiers)
    own = model.backbone.state_dict()
    skipped = tuple(sorted(key for key in state if key.startswith(prefixes) and key not in own))
    kept = {key: value for key, value in state.items() if key not in skipped}
    # Files older than PyTorch 0.4.1 lack the batch counters, which no default setting uses.
    for key, value in own.items():
        if key.endswith("num_batches_tracked"):
            kept.setdefault(key, value)
    _compare(kept, own, file_name, model.spec.name)
    model.backbone.load_state_dict(kept)
    return skipped


def _compare(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], file_name: str, model_name: str
) -> None:
    """Refuse a state dict that does not match key for key and shape for shape."""
    problems = [
        *_listed("missing", sorted(own.keys() - state.keys())),
        *_listed("unexpected", sorted(state.keys() - own.keys())),
        *_listed(
            "of another shape",
            [
                f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
                for key in own
                if key in state and state[key].shape != own[key].shape
            ],
        ),
    ]
    if problems:
        raise WeightsError(
            f"{file_name} does not fit {model_name}: {'; '.join(problems)}. "
            "Take the file of this very architecture (and image_px, if it has position embeddings)."
        )


def _listed(kind: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{len(names)} {kind} ({', '.join(names[:5])}{more})"]
