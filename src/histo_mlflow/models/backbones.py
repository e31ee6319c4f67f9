"""Backbones by name, from torchvision and timm, each without its own classifier.

The rule for names: "torchvision/NAME" and "timm/NAME" say which library is meant; a bare NAME is
torchvision's where torchvision has a classifier of that name, else timm's. A spec always holds the
full form, so that a later torchvision with more models does not change what a saved model means.
"""

import difflib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.normalise import STATISTICS, Triple

# Where torchvision's code rescales its input because the weights were trained on [-1, 1].
_TRAINED_ON_HALF = ("googlenet", "inception_v3")
# Heads for training only; torchvision's files hold them, a classifier of patches has no use for
# them.
_AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
# torchvision's DenseNet files keep the names of 2017, "norm.1"; the modules are called "norm1".
_DENSENET_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True)
class Backbone:
    """A network from normalised images to pooled features.

    Attributes:
        module: float (B, 3, H, W) -> float (B, `width`).
        width: number of pooled features.
        classifiers: prefixes of the state dict keys of the removed classifier, which pretrained
            files still hold.
    """

    module: nn.Module
    width: int
    classifiers: tuple[str, ...]


def full_name(name: str) -> str:
    """The name with its library before it, after looking it up.

    Raises:
        ModelError: neither library has it; names that are spelt alike are suggested.
    """
    library, _, bare = name.rpartition("/")
    in_torchvision = torchvision.models.list_models(module=torchvision.models)
    if library in ("", "torchvision") and bare in in_torchvision:
        return f"torchvision/{bare}"
    if library in ("", "timm") and timm.is_model(bare):
        architecture, _, tag = bare.partition(".")
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        if not tag or tag in tags:
            return f"timm/{bare}"
        raise ModelError(
            f"timm has no weights {tag!r} for {architecture}; known: {', '.join(tags) or 'none'}."
        )
    known = {"torchvision": in_torchvision, "timm": timm.list_models()}
    candidates = known.get(library) or sorted({*known["torchvision"], *known["timm"]})
    close = difflib.get_close_matches(bare, candidates, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_models() for the names."
    raise ModelError(f"Neither torchvision nor timm has a classifier called {name!r}; {hint}")


def statistics_of(full: str) -> tuple[Triple, Triple]:
    """(mean, std) of pixels in [0, 1] that the pretrained weights of a full name expect."""
    library, _, bare = full.partition("/")
    if library == "timm":
        cfg = timm.get_pretrained_cfg(bare)
        return STATISTICS["imagenet"] if cfg is None else (_triple(cfg.mean), _triple(cfg.std))
    if bare in _TRAINED_ON_HALF:
        return STATISTICS["half"]
    preset = torchvision.models.get_model_weights(bare).DEFAULT.transforms()
    return _triple(preset.mean), _triple(preset.std)


def build_backbone(full: str, image_px: int) -> Backbone:
    """Build a backbone with random weights, drawn from torch's global generator.

    One black image goes through it, so that a size it cannot take is found here and not in the
    first training step.

    Args:
        full: a name from `full_name`.
        image_px: side of the square images.

    Raises:
        ModelError: the architecture cannot take images of this size, or does not pool them into
            one row of features.
    """
    library, _, bare = full.partition("/")
    make = _timm if library == "timm" else _torchvision
    try:
        module, classifiers = make(bare, image_px)
        width = _width(module, image_px)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ModelError(
            f"{full} cannot be built for images of {image_px} px: {reason}. "
            "Take another image_px (often 224) or another model."
        ) from error
    return Backbone(module, width, classifiers)


def module_names(full: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a pretrained file, with old names brought up to date."""
    if not full.startswith("torchvision/densenet"):
        return dict(state)
    return {_DENSENET_OLD_NAME.sub(r"\1\2", key): value for key, value in state.items()}


def _triple(values: tuple[float, ...] | list[float]) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _width(module: nn.Module, image_px: int) -> int:
    was_training = module.training
    module.eval()  # no statistics of a black image in the batch norms
    with torch.no_grad():  # not inference mode: what a module caches must serve training too
        features = module(torch.zeros(1, 3, image_px, image_px))
    module.train(was_training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise ValueError("it does not give one row of pooled features per image")
    return int(features.shape[1])


def _timm(bare: str, image_px: int) -> tuple[nn.Module, tuple[str, ...]]:
    cfg = timm.get_pretrained_cfg(bare)
    # Transformers allocate their position embedding for one size.
    fixed = cfg is not None and cfg.fixed_input_size
    size: dict[str, Any] = {"img_size": image_px} if fixed else {}
    module: nn.Module = timm.create_model(bare, pretrained=False, num_classes=0, **size)
    named = () if cfg is None or cfg.classifier is None else cfg.classifier
    return module, (named,) if isinstance(named, str) else tuple(named)


def _torchvision(bare: str, image_px: int) -> tuple[nn.Module, tuple[str, ...]]:
    options: dict[str, Any] = {}
    if bare in _AUXILIARY:
        options = {"aux_logits": False, "init_weights": True}
    elif bare.startswith("vit_"):
        options = {"image_size": image_px}
    elif bare.startswith("maxvit"):
        options = {"input_size": (image_px, image_px)}
    with warnings.catch_warnings():
        # MaxViT's own code uses a form of meshgrid that torch warns about; nobody here can act.
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        module: nn.Module = torchvision.models.get_model(bare, weights=None, **options)
    if bare.startswith("squeezenet"):
        # Its classifier is a convolution before the pooling; the pooling has to stay.
        module.classifier = nn.AdaptiveAvgPool2d(1)
        return module, ("classifier.1",)
    classifier = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)][-1]
    module.set_submodule(classifier, nn.Identity())
    return module, (classifier, *_AUXILIARY.get(bare, ()))
