"""Where in a network the last map of the image is: what Grad-CAM reads.

No table of architectures says it. The network is run once, and the outputs of its modules are tried
from the last to the first: a map counts only if the network, given another image's map in its
place, gives that other image's features. So a branch, or a map that a shortcut passes by, is never
taken for all that was seen. Transformers of the usual make, known by their parts, hold the map as
patch tokens beside a class token; there the map is the last that the features depend on.
"""

import copy
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.build import Classifier

Layout = Literal["NCHW", "NHWC", "tokens"]

Output = tuple[str, tuple[int, ...]]

LEAST_CELLS = 4
"""Of a map, either way; fewer hardly tell places apart. Over 280 images of HAM10000 at 96 px,
covering the fifth of the image that the map of an EfficientNet-Lite0 calls strongest took 0.29 off
the probability with 6 x 6 cells, 0.15 with the 3 x 3 of the last layer, 0.11 with a random fifth.
"""

_BLOCK = r"blocks\.\d+|encoder\.layers\.encoder_layer_\d+"
_NOTHING = 0.01  # what counts as no change, as a share of what tells two different images apart
_TRIES = 50  # one forward pass each; the last map is among the first few, unless there is none
_TELLING = 1e-10  # the least that tells them apart, as a share of the features: above rounding


@dataclass(frozen=True)
class FeatureMap:
    """The output of one module of the backbone, as a map of the image.

    Attributes:
        name: of the module in the backbone, such as "layer4" or "blocks.11.norm1".
        layout: how channels and places are laid out.
        height: cells from top to bottom.
        width: cells from left to right.
        prefix: tokens before those of the patches, such as the class token.
    """

    name: str
    layout: Layout
    height: int
    width: int
    prefix: int = 0


class Through(nn.Module):
    """A module whose output, NHWC or tokens, passes as (B, C, h, w) through `grid`, for hooks."""

    def __init__(self, module: nn.Module, place: FeatureMap) -> None:
        super().__init__()
        self.module = module
        self.place = place
        self.grid = nn.Identity()

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Give what the module gives."""
        out = cast(Tensor, self.module(*inputs, **named))
        place = self.place
        if place.layout == "NHWC":
            return cast(Tensor, self.grid(out.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        prefix, patches = out[:, : place.prefix], out[:, place.prefix :]
        grid = patches.transpose(1, 2).reshape(len(out), -1, place.height, place.width)
        return torch.cat([prefix, self.grid(grid).flatten(2).transpose(1, 2)], dim=1)


def find_feature_map(classifier: Classifier, least: int = LEAST_CELLS) -> FeatureMap:
    """Find the last map of the image in a classifier.

    A copy is looked at on the CPU, in eval mode and float64: a network hardly trained may tell two
    images apart by less than float32 resolves.

    Args:
        classifier: stays as it is.
        least: cells that the map should have either way. Where the last map has fewer, the last one
            of up to twice as many is taken instead, if there is one.

    Raises:
        ModelError: the architecture has none; the sentence begins "no Grad-CAM for".
    """
    spec = classifier.spec
    with torch.inference_mode(False), torch.no_grad():
        model = working_copy(classifier, "cpu", torch.float64)
        images = model.normalise(_two_images(spec.image_px))
        with torch.autocast("cpu", enabled=False):
            features, outputs = _outputs(model.backbone, images)
            if not bool(features.isfinite().all()):
                raise ModelError(f"no Grad-CAM for {spec.name}: it gives NaN or infinite features.")
            differ = float((features[0] - features[1]).abs().max())
            if differ <= _TELLING * float(features.abs().max()):
                raise ModelError(
                    f"no Grad-CAM for {spec.name}: it gives two different images the same features."
                )
            place = _found(model.backbone, images, features, outputs, 2, spec.image_px)
            if place is not None and place.height < least:
                finer = _found(model.backbone, images, features, outputs, least, 2 * least)
                place = finer or place
            if place is not None:
                return place
    raise ModelError(
        f"no Grad-CAM for {spec.name} at {spec.image_px} px: it has no map of the image, of more "
        "than one cell, through which all passes that it says."
    )


def _found(
    backbone: nn.Module,
    images: Tensor,
    features: Tensor,
    outputs: list[Output],
    least: int,
    most: int,
) -> FeatureMap | None:
    """The last map of `least` to `most` cells either way that decides the features."""
    differ = float((features[0] - features[1]).abs().max())
    for place in _token_maps(backbone, outputs):
        if not least <= place.height <= most:
            continue
        swapped = _with_maps_swapped(backbone, images, place)
        if float((swapped - features).abs().max()) > _NOTHING * differ:
            return place
    fitting = (place for place in _maps(outputs) if least <= place.height <= most)
    for place in islice(fitting, _TRIES):
        swapped = _with_maps_swapped(backbone, images, place)
        if float((swapped - features.flip(0)).abs().max()) <= _NOTHING * differ:
            return place
    return None


def working_copy(classifier: Classifier, device: str | None, dtype: torch.dtype) -> Classifier:
    """Copy a classifier: eval mode, nothing that asks for a gradient.

    Args:
        classifier: stays as it is.
        device: of the copy; None for that of the classifier.
        dtype: of its weights.
    """
    model = copy.deepcopy(classifier).eval().requires_grad_(False)
    return model.to(classifier.normalise.scale.device if device is None else device, dtype)


def expose(backbone: nn.Module, place: FeatureMap) -> nn.Module:
    """Return the module whose output is the map as (B, C, h, w), built into `backbone` if need be.

    Only for a copy of a model: what is built in stays.
    """
    module = backbone.get_submodule(place.name)
    if place.layout == "NCHW":
        return module
    through = Through(module, place)
    backbone.set_submodule(place.name, through)
    return through.grid


def _two_images(px: int) -> Tensor:
    """A white image and one of coloured blocks, uint8: they differ in whatever may be looked at."""
    drawn = torch.randint(0, 256, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    blocks = nn.functional.interpolate(drawn.float(), (px, px))
    return torch.cat([torch.full_like(blocks, 255), blocks]).to(torch.uint8)


def _outputs(backbone: nn.Module, images: Tensor) -> tuple[Tensor, list[Output]]:
    """The features, and name and shape of what each module gave, the last first.

    Modules that are used twice are left out: a hook could not tell which use is meant.
    """
    seen: list[Output] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            seen.append((name, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return hook

    named = [(name, module) for name, module in backbone.named_modules() if name]
    handles = [module.register_forward_hook(note(name)) for name, module in named]
    try:
        features = cast(Tensor, backbone(images))
    finally:
        for handle in handles:
            handle.remove()
    uses = Counter(name for name, _ in seen)
    return features, [one for one in reversed(seen) if uses[one[0]] == 1]


def _token_maps(backbone: nn.Module, outputs: list[Output]) -> Iterator[FeatureMap]:
    """The last norm, which counts where patches are averaged, then the last block's first norm.

    With a class token only the latter counts: from the last attention on, the patches are no longer
    read.
    """
    blocks = [name for name, _ in outputs if re.fullmatch(_BLOCK, name)]
    prefix = getattr(backbone, "num_prefix_tokens", None)  # timm's word for it
    if hasattr(backbone, "class_token") and hasattr(backbone, "conv_proj"):  # torchvision
        prefix = 1
    if not blocks or not isinstance(prefix, int):
        return
    shapes = dict(outputs)
    for name in ("norm", "encoder.ln", f"{blocks[0]}.norm1", f"{blocks[0]}.ln_1"):
        shape = shapes.get(name, ())
        side = math.isqrt(max(0, shape[1] - prefix)) if len(shape) == 3 else 0
        if side > 1 and side * side == shape[1] - prefix:
            yield FeatureMap(name, "tokens", side, side, prefix)


def _maps(outputs: list[Output]) -> Iterator[FeatureMap]:
    """Square maps of more than one cell, back to where the network goes on in tokens.

    A map before that, such as the patches' embedding, would be exact and say next to nothing.
    """
    for name, shape in outputs:
        if len(shape) == 3 and shape[0] == 2 and shape[1] > 1:
            return
        if len(shape) != 4 or shape[0] != 2 or shape[1] == shape[2] == shape[3]:
            continue  # with as many channels as rows, nothing tells channels from places
        if shape[2] == shape[3] > 1:
            yield FeatureMap(name, "NCHW", shape[2], shape[3])
        elif shape[1] == shape[2] > 1:
            yield FeatureMap(name, "NHWC", shape[1], shape[2])


def _with_maps_swapped(backbone: nn.Module, images: Tensor, place: FeatureMap) -> Tensor:
    """The features where each of two images has the other's map."""
    with _swapping(backbone.get_submodule(place.name), place.prefix):
        return cast(Tensor, backbone(images))


@contextmanager
def _swapping(module: nn.Module, prefix: int) -> Iterator[None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :prefix], output[:, prefix:].flip(0)], dim=1)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
