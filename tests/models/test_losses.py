import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from histo_mlflow.errors import DataError, ModelError
from histo_mlflow.models.losses import class_weights, loss_function

TARGETS = torch.tensor([0, 2, 1, 1, 0, 2, 2, 2])


def logits(columns: int) -> torch.Tensor:
    return torch.randn(8, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, s: float) -> float:
    """The docstring's formula, sample by sample."""
    total = norm = 0.0
    k = scores.shape[1]
    for z, y in zip(scores, targets, strict=True):
        log_p = z - np.log(np.exp(z).sum())
        total += (1 - s) * weights[y] * -log_p[y] + s / k * (weights * -log_p).sum()
        norm += weights[y]
    return total / norm


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 1.0, 4.0]])
def test_softmax_loss_is_its_formula(weights, smoothing):
    loss = loss_function("softmax", class_weights=torch.tensor(weights), label_smoothing=smoothing)

    expected = by_hand(logits(3).numpy(), TARGETS.numpy(), np.array(weights), smoothing)

    assert float(loss(logits(3), TARGETS)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.5, 4.0]])
def test_sigmoid_loss_is_the_same_formula_on_the_pair_of_logits(weights, smoothing):
    one = logits(1)
    loss = loss_function("sigmoid", class_weights=torch.tensor(weights), label_smoothing=smoothing)
    pair = np.hstack([np.zeros((8, 1)), one.numpy()])

    expected = by_hand(pair, (TARGETS > 0).long().numpy(), np.array(weights), smoothing)

    assert float(loss(one, (TARGETS > 0).long())) == pytest.approx(expected, rel=1e-6)


def test_sigmoid_loss_without_weights_is_binary_cross_entropy_with_smoothed_targets():
    targets = (TARGETS > 0).long()
    smoothed = 0.9 * targets.double().unsqueeze(1) + 0.05

    answer = loss_function("sigmoid", label_smoothing=0.1)(logits(1), targets)

    expected = F.binary_cross_entropy_with_logits(logits(1), smoothed)
    assert float(answer) == pytest.approx(float(expected), rel=1e-12)


def test_plain_loss_is_scikit_learns_log_loss():
    probabilities = logits(3).softmax(1).numpy()

    answer = loss_function("softmax")(logits(3), TARGETS)

    assert float(answer) == pytest.approx(log_loss(TARGETS, probabilities), rel=1e-12)


def test_half_precision_logits_are_judged_in_float32():
    answer = loss_function("sigmoid")(logits(1).bfloat16(), (TARGETS > 0).long())

    assert answer.dtype == torch.float32


def test_a_large_wrong_logit_costs_what_it_should_and_keeps_its_gradient():
    z = torch.tensor([[80.0]], requires_grad=True)

    loss = loss_function("sigmoid")(z, torch.tensor([0]))
    loss.backward()

    assert loss.item() == pytest.approx(80.0)
    assert z.grad.item() == pytest.approx(1.0)


def test_class_weights_are_scikit_learns_balanced_ones_and_their_roots():
    labels = np.repeat([0, 1, 2], [6705, 1113, 115])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)

    np.testing.assert_allclose(class_weights([6705, 1113, 115], "balanced"), expected, rtol=1e-6)
    np.testing.assert_allclose(class_weights([6705, 1113, 115], "sqrt"), expected**0.5, rtol=1e-6)
    assert class_weights([1, 2], "none") is None


def test_what_no_loss_can_be_made_of_is_refused():
    with pytest.raises(ModelError, match="softmax or sigmoid"):
        loss_function("hinge")
    with pytest.raises(ModelError, match="label_smoothing"):
        loss_function("softmax", label_smoothing=1.0)
    with pytest.raises(ModelError, match="above 0"):
        loss_function("softmax", class_weights=torch.tensor([1.0, 0.0]))
    with pytest.raises(ModelError, match="none, balanced or sqrt"):
        class_weights([1, 2], "inverse")
    with pytest.raises(DataError, match=r"counts \[3, 0\]"):
        class_weights([3, 0], "balanced")
