"""What stands between the pooled features and the logits."""

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from histo_mlflow.errors import ModelError


def _layers(widths: list[int], dropout: float) -> nn.Sequential:
    """Linear layers from width to width, with ReLU and dropout between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        if layers:
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


def _linear(features: int, outputs: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, outputs))


def _hidden(features: int, outputs: int, hidden: int, dropout: float) -> nn.Sequential:
    return _layers([features, hidden, outputs], dropout)


def _three(features: int, outputs: int, hidden: int, dropout: float) -> nn.Sequential:
    return _layers([features, 256, 32, outputs], dropout)


HEADS: dict[str, Callable[[int, int, int, float], nn.Sequential]] = {
    "linear": _linear,  # Dropout, Linear
    "hidden": _hidden,  # Linear to `hidden`, ReLU, Dropout, Linear
    "three": _three,  # Linear 256, ReLU, Dropout, Linear 32, ReLU, Dropout, Linear
}


def check_head(head: str, hidden: int, dropout: float) -> None:
    """Refuse a head that cannot be built.

    Raises:
        ModelError: unknown name, `hidden` below 1, or `dropout` outside [0, 1).
    """
    if head not in HEADS:
        raise ModelError(f"head must be one of {', '.join(HEADS)}; {head!r} was given.")
    if hidden < 1:
        raise ModelError(f"hidden must be at least 1 unit; {hidden} was given.")
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout must lie in [0, 1); {dropout} was given.")


def build_head(
    head: str, *, features: int, outputs: int, hidden: int, dropout: float
) -> nn.Sequential:
    """Build a head: (B, features) -> (B, outputs).

    Args:
        head: a key of `HEADS`. "three" is the head of the Benign/Malignant notebook.
        features: width of the pooled features.
        outputs: number of logits.
        hidden: units of the hidden layer; used by "hidden" only.
        dropout: probability that a unit is dropped; "linear" drops features, the others drop
            hidden units.

    Raises:
        ModelError: see `check_head`.
    """
    check_head(head, hidden, dropout)
    return HEADS[head](features, outputs, hidden, dropout)
