"""From a few words to a classifier: uint8 images in, logits out.

`specify` settles everything that decides the architecture, `build` makes it. A `ModelSpec` is what
a model folder stores: it is enough to rebuild the model, to which the weights are then loaded.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.backbones import Backbone, build_backbone, full_name, statistics_of
from histo_mlflow.models.heads import build_head, check_head
from histo_mlflow.models.normalise import Normalise, Triple, statistics

Output = Literal["softmax", "sigmoid"]
OUTPUTS: tuple[Output, ...] = ("softmax", "sigmoid")
_UNSHOWN = ("Cc", "Cs")  # control characters and surrogates


@dataclass(frozen=True)
class ModelSpec:
    """What a classifier is, but for its weights.

    Attributes:
        name: library and architecture, such as "torchvision/resnet18".
        classes: names of the classes, in the order of the logits.
        head: a key of `heads.HEADS`.
        hidden: units of the hidden layer of the head "hidden".
        dropout: dropout of the head, in [0, 1).
        output: "softmax" gives one logit a class; "sigmoid" one logit, for the second class.
        image_px: side of the square images.
        mean: channel means of pixels in [0, 1].
        std: channel standard deviations of pixels in [0, 1].

    Raises:
        ModelError: a value is not one of those above, fewer than two or repeated classes, or a
            sigmoid over other than two classes.
    """

    name: str
    classes: tuple[str, ...]
    head: str
    hidden: int
    dropout: float
    output: Output
    image_px: int
    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ModelError(
                "A classifier needs two or more different classes; "
                f"{list(self.classes)} were given."
            )
        if self.output not in OUTPUTS:
            raise ModelError(f"output must be softmax or sigmoid; {self.output!r} was given.")
        if self.output == "sigmoid" and len(self.classes) != 2:
            raise ModelError(
                f"output=sigmoid tells two classes apart; there are {len(self.classes)}. "
                "Take output=softmax."
            )
        if self.image_px < 1:
            raise ModelError(f"image_px must be at least 1; {self.image_px} was given.")
        if (
            len(self.mean) != 3
            or len(self.std) != 3
            or not all(map(math.isfinite, (*self.mean, *self.std)))
            or min(self.std) <= 0
        ):
            raise ModelError(
                "mean and std must be three numbers each, finite, std above 0; "
                f"{self.mean} and {self.std} were given."
            )
        check_head(self.head, self.hidden, self.dropout)

    @property
    def logits(self) -> int:
        """Number of logits: 1 for a sigmoid, else one a class."""
        return 1 if self.output == "sigmoid" else len(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ModelError: fields are missing, unknown or of the wrong kind.
        """
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            raise ModelError(
                f"A model spec has the fields {sorted(expected)}; missing "
                f"{sorted(expected - set(values))}, unknown {sorted(set(values) - expected)}."
            )
        classes = values["classes"]
        if not isinstance(classes, list | tuple) or not all(map(_is_name, classes)):
            raise ModelError(
                "A model spec lists the names of its classes, without control characters; it holds "
                f"{ascii(classes)[:80]}."
            )
        try:
            return cls(
                name=str(values["name"]),
                classes=tuple(classes),
                head=str(values["head"]),
                hidden=int(values["hidden"]),
                dropout=float(values["dropout"]),
                output=values["output"],
                image_px=int(values["image_px"]),
                mean=cast(Triple, tuple(float(value) for value in values["mean"])),
                std=cast(Triple, tuple(float(value) for value in values["std"])),
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"A model spec holds a value of the wrong kind: {error}.") from error


def _is_name(value: object) -> bool:
    """Whether a value can be shown as the name of a class: no line break, no lone surrogate."""
    return isinstance(value, str) and not any(unicodedata.category(c) in _UNSHOWN for c in value)


class Classifier(nn.Module):
    """Normalisation, backbone and head.

    A frozen backbone (`groups.freeze_backbone`) stays in eval mode whatever `train` is told, since
    batch norms in train mode would go on learning their statistics.
    """

    def __init__(self, spec: ModelSpec, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.classifiers = backbone.classifiers
        self.frozen: tuple[nn.Parameter, ...] = ()
        self.normalise = Normalise(spec.mean, spec.std)
        self.backbone = backbone.module
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        """Pooled features: uint8 (B, 3, H, W) -> float (B, D)."""
        return cast(Tensor, self.backbone(self.normalise(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits: uint8 (B, 3, H, W), any memory format -> float (B, K), or (B, 1) for sigmoid."""
        return cast(Tensor, self.head(self.features(images)))

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


def specify(
    name: str,
    classes: Sequence[str],
    *,
    head: str = "linear",
    hidden: int = 512,
    dropout: float = 0.0,
    output: str = "softmax",
    image_px: int = 96,
    normalisation: str = "auto",
) -> ModelSpec:
    """Settle what a classifier is.

    Args:
        name: a torchvision or timm classifier; `backbones` states the rule.
        classes: names of the classes, in the order of the logits.
        head: "linear", "hidden" or "three"; see `heads`.
        hidden: units of the hidden layer of the head "hidden".
        dropout: dropout of the head, in [0, 1).
        output: "softmax", or "sigmoid" for exactly two classes.
        image_px: side of the square images.
        normalisation: "auto" takes what the architecture's pretrained weights expect; "imagenet",
            "half" and "none" are listed in `normalise.STATISTICS`.

    Raises:
        ModelError: a name is unknown or a value does not fit; see `ModelSpec`.
    """
    full = full_name(name)
    mean, std = statistics(normalisation, statistics_of(full))
    return ModelSpec(
        name=full,
        classes=tuple(classes),
        head=head,
        hidden=hidden,
        dropout=dropout,
        output=cast(Output, output),
        image_px=image_px,
        mean=mean,
        std=std,
    )


def build(spec: ModelSpec, seed: int = 0) -> Classifier:
    """Build a classifier with random weights, on the CPU, in train mode.

    The weights are a function of (spec, seed): torch's global generator is left as it was.

    Raises:
        ModelError: the architecture is unknown here or cannot take images of `spec.image_px`.
    """
    full = full_name(spec.name)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would also seed the generators of the GPUs, for good.
        torch.default_generator.manual_seed(seed % 2**63)
        backbone = build_backbone(full, spec.image_px)
        head = build_head(
            spec.head,
            features=backbone.width,
            outputs=spec.logits,
            hidden=spec.hidden,
            dropout=spec.dropout,
        )
    return Classifier(spec, backbone, head)


def probabilities(logits: Tensor, output: str) -> Tensor:
    """Probabilities in float64, where a sigmoid does not saturate at 17 and make ties.

    Args:
        logits: float (B, K) for "softmax", (B, 1) for "sigmoid".
        output: "softmax" or "sigmoid".

    Returns:
        float64 (B, K), rows summing to 1; for "sigmoid" [1 - p, p]. NaN stays NaN.

    Raises:
        ModelError: the shape or the output is another.
    """
    if output not in OUTPUTS or logits.ndim != 2 or (output == "sigmoid") != (logits.shape[1] == 1):
        raise ModelError(
            "Probabilities need logits of shape (B, K), K >= 2, for softmax or (B, 1) for sigmoid; "
            f"{tuple(logits.shape)} for {output!r} came."
        )
    exact = logits.double()
    if output == "softmax":
        return exact.softmax(dim=1)
    # sigmoid(-z) rather than 1 - sigmoid(z), which loses its digits where p is near 1.
    return torch.cat([(-exact).sigmoid(), exact.sigmoid()], dim=1)
