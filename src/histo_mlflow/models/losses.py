"""Losses of K logits and of one logit, with one meaning of class weights and of smoothing."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from histo_mlflow.errors import DataError, ModelError
from histo_mlflow.models.build import OUTPUTS

Loss = Callable[[Tensor, Tensor], Tensor]


def loss_function(
    output: str, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Loss:
    """The mean loss of a batch, from logits and class indices.

    Softmax: torch's cross-entropy. With weights w and smoothing s, a sample of class y costs
    (1 - s) w_y (-log p_y) + s / K sum_c w_c (-log p_c), and the mean divides by the sum of w_y.

    Sigmoid: binary cross-entropy of the logit z. Since sigmoid(z) is the second entry of
    softmax(0, z), it is computed as the cross-entropy of (0, z), so that weights and smoothing
    mean the same for both outputs; without weights it equals binary_cross_entropy_with_logits on
    targets (1 - s) y + s / 2.

    Args:
        output: "softmax" or "sigmoid".
        class_weights: float (K,), K = 2 for sigmoid, or None for equal weights.
        label_smoothing: s in [0, 1).

    Returns:
        (logits (B, K) or (B, 1), targets int64 (B,)) -> scalar, computed in float32 at least.
        An empty batch gives NaN, as torch's mean does.

    Raises:
        ModelError: unknown output, smoothing out of range, or weights that are not positive.
    """
    if output not in OUTPUTS:
        raise ModelError(f"output must be softmax or sigmoid; {output!r} was given.")
    if not 0 <= label_smoothing < 1:
        raise ModelError(f"label_smoothing must lie in [0, 1); {label_smoothing} was given.")
    if class_weights is not None and not bool((class_weights > 0).all()):
        raise ModelError(f"Class weights must be above 0; {class_weights.tolist()} were given.")

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        exact = logits if logits.dtype == torch.float64 else logits.float()
        if output == "sigmoid":
            exact = torch.cat([torch.zeros_like(exact), exact], dim=1)
        weight = None if class_weights is None else class_weights.to(exact)
        return F.cross_entropy(exact, targets, weight, label_smoothing=label_smoothing)

    return loss


def class_weights(counts: Sequence[int], kind: str) -> Tensor | None:
    """Weights that make rare classes count for more.

    Args:
        counts: training images of each class.
        kind: "none"; "balanced", n / (K n_c), scikit-learn's; or "sqrt", the square root of it.

    Returns:
        float32 (K,), or None for "none".

    Raises:
        ModelError: unknown kind.
        DataError: a class has no training image, so no weight can be found for it.
    """
    if kind not in ("none", "balanced", "sqrt"):
        raise ModelError(f"Class weights must be none, balanced or sqrt; {kind!r} was given.")
    if kind == "none":
        return None
    if min(counts) < 1:
        raise DataError(
            f"Class weights need at least one training image of every class; counts {list(counts)}."
        )
    n = torch.tensor(list(counts), dtype=torch.float64)
    balanced = n.sum() / (len(n) * n)
    return (balanced if kind == "balanced" else balanced.sqrt()).float()
