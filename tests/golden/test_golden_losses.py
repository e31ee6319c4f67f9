"""Pinned numbers: a refactor that changes what is computed changes these."""

import json
from pathlib import Path

import pytest
import torch

from histo_mlflow.models.build import build, specify
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.models.losses import loss_function
from histo_mlflow.training.optim import build_optimiser
from histo_mlflow.training.schedule import apply, multiplier

GOLDEN = json.loads((Path(__file__).parent / "losses.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", GOLDEN["losses"], ids=lambda case: case["what"])
def test_losses_have_their_pinned_values(case):
    weights = case["class_weights"]
    loss = loss_function(
        case["output"],
        class_weights=None if weights is None else torch.tensor(weights),
        label_smoothing=case["label_smoothing"],
    )
    logits = torch.tensor(case["logits"], dtype=torch.float64)

    assert float(loss(logits, torch.tensor(case["targets"]))) == pytest.approx(
        case["loss"], rel=1e-9
    )


@pytest.mark.parametrize("case", GOLDEN["training"], ids=lambda case: case["optimiser"])
def test_a_short_training_has_its_pinned_losses(case):
    """Six steps without random numbers, in float64.

    In float32 two kernels' last digits grow to 7 % within these steps; in float64 they stay below
    the tolerance on every machine, so that any larger difference is a changed rule.
    """
    model = build(specify("timm/test_resnet", ("a", "b"), image_px=32)).double()
    with torch.no_grad():  # weights without random numbers: torch may change its generators
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                wave = torch.arange(parameter.numel()).double().mul(0.7 + 0.01 * len(name)).sin()
                fan_in = parameter[0].numel()
                parameter.copy_(wave.view_as(parameter) * (2 / fan_in) ** 0.5)
    pixels = torch.arange(8 * 3 * 32 * 32).double().mul(0.37).sin().add(1).mul(127)
    images = pixels.to(torch.uint8).view(8, 3, 32, 32)
    targets = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    loss = loss_function("softmax", label_smoothing=0.1)
    optimiser = build_optimiser(
        case["optimiser"], parameter_groups(model, lr=case["lr"], weight_decay=0.01)
    )

    losses = []
    for step in range(6):
        apply(optimiser, multiplier(step, total_steps=6, steps_per_epoch=3, schedule="cosine"))
        answer = loss(model(images), targets)
        answer.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(answer.item())

    assert losses == pytest.approx(case["losses"], rel=1e-6)
