import pytest
import torch
from torch import nn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.groups import (
    freeze_backbone,
    parameter_groups,
    stages,
    unfreeze_backbone,
)


def small(name: str = "timm/test_resnet") -> Classifier:
    return build(specify(name, ("a", "b"), head="hidden", hidden=4, image_px=32))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        ("timm/test_resnet", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        (
            "timm/test_efficientnet",
            ["stem", *(f"blocks.{n}" for n in range(5)), "conv_head", "head"],
        ),
        ("timm/test_vit", ["embed", *(f"blocks.{n}" for n in range(6)), "norm", "head"]),
        ("timm/test_convnext", ["stem", *(f"stages.{n}" for n in range(4)), "norm", "head"]),
        ("vit_b_32", ["embed", *(f"blocks.{n}" for n in range(12)), "norm", "head"]),
        ("mobilenet_v3_small", [*(f"features.{n}" for n in range(13)), "pre_logits", "head"]),
    ],
)
def test_stages_have_the_names_users_know_and_hold_every_tensor_once(name, expected):
    with torch.device("meta"):
        model = small(name)

    found = stages(model)

    assert list(found) == expected
    held = [id(parameter) for named in found.values() for _, parameter in named]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())


def test_rates_go_to_the_stages_they_were_given_for():
    groups = parameter_groups(
        small(), lr=1.0, weight_decay=0.1, group_lrs={"head": 1e-2, "layer4": 1e-3, "rest": 1e-4}
    )

    rates = {group["name"].removesuffix(" (no decay)"): group["lr"] for group in groups}
    assert rates == {
        "stem": 1e-4,
        "layer1": 1e-4,
        "layer2": 1e-4,
        "layer3": 1e-4,
        "layer4": 1e-3,
        "head": 1e-2,
    }


def test_a_family_names_all_its_stages_and_a_stage_comes_before_its_family():
    groups = parameter_groups(
        small("timm/test_efficientnet"),
        lr=1.0,
        weight_decay=0.0,
        group_lrs={"blocks": 0.5, "blocks.4": 0.25},
    )

    rates = {group["name"]: group["lr"] for group in groups}
    assert rates["blocks.0"] == 0.5
    assert rates["blocks.4"] == 0.25
    assert rates["stem"] == 1.0


def test_layer_decay_falls_from_the_head_to_the_input():
    groups = parameter_groups(small(), lr=1.0, weight_decay=0.0, layer_decay=0.5)

    rates = [group["lr"] for group in groups if "(no decay)" not in group["name"]]
    assert rates == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]


def test_only_tensors_of_two_or_more_dimensions_decay():
    model = small()

    groups = parameter_groups(model, lr=1.0, weight_decay=0.1)

    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"group_lrs": {"layer9": 1.0}}, "no stage layer9; its stages are stem, layer1"),
        ({"group_lrs": {"head": -1.0}}, "must not be negative"),
        ({"layer_decay": 0.0}, "layer_decay"),
    ],
)
def test_rates_that_cannot_be_meant_are_refused(change, says):
    with pytest.raises(ModelError, match=says):
        parameter_groups(small(), **({"lr": 1.0, "weight_decay": 0.0} | change))


def test_a_frozen_backbone_changes_in_nothing_while_the_head_trains():
    model = small()
    optimiser = torch.optim.AdamW(parameter_groups(model, lr=0.1, weight_decay=0.1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    freeze_backbone(model)
    seeded = torch.Generator()
    for seed in range(3):
        model.train()
        seeded.manual_seed(seed)
        batch = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=seeded)
        nn.functional.cross_entropy(model(batch), torch.tensor([0, 1, 0, seed % 2])).backward()
        optimiser.step()
        optimiser.zero_grad()

    changed = {
        name for name, tensor in model.state_dict().items() if not before[name].equal(tensor)
    }
    assert changed == {name for name in before if name.startswith("head.")}


def test_train_mode_reaches_the_head_but_not_a_frozen_backbone():
    model = small().eval()
    freeze_backbone(model)

    model.train()

    assert model.training
    assert model.head.training
    assert not any(part.training for part in model.backbone.modules())


def test_the_thaw_restores_exactly_what_the_freeze_took():
    model = small()
    fixed = next(model.backbone.parameters()).requires_grad_(False)
    freeze_backbone(model)
    freeze_backbone(model)
    unfreeze_backbone(model)

    assert [p for p in model.parameters() if not p.requires_grad] == [fixed]
    assert all(part.training for part in model.modules())


def test_groups_made_while_frozen_hold_what_trains_after_the_thaw():
    model = small()
    freeze_backbone(model)

    held = sum(len(group["params"]) for group in parameter_groups(model, lr=1.0, weight_decay=0.0))

    assert held == len(list(model.parameters()))
