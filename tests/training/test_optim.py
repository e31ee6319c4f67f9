import pytest
import torch

from histo_mlflow.errors import RecipeError
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.training.optim import OPTIMISERS, build_optimiser


def groups():
    torch.manual_seed(0)
    return [
        {
            "params": [torch.randn(4, 3).requires_grad_()],
            "lr": 0.1,
            "weight_decay": 0.5,
            "name": "a",
        },
        {"params": [torch.randn(3).requires_grad_()], "lr": 0.01, "weight_decay": 0.0, "name": "b"},
    ]


def moved(optimiser, given, steps: int = 5) -> list[torch.Tensor]:
    tensors = [group["params"][0] for group in given]
    for _ in range(steps):
        optimiser.zero_grad()
        sum((tensor**2).sum() for tensor in tensors).backward()
        optimiser.step()
    return [tensor.detach() for tensor in tensors]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("sgd", lambda given: torch.optim.SGD(given, momentum=0.8)),
    ],
)
def test_each_optimiser_moves_as_torchs_plain_form(name, plain):
    mine, theirs = groups(), groups()

    answer = moved(build_optimiser(name, mine, momentum=0.8), mine)

    torch.testing.assert_close(answer, moved(plain(theirs), theirs))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_tensor_of_a_model_moves(name):
    model = build(specify("timm/test_resnet", ("a", "b"), image_px=32))
    optimiser = build_optimiser(name, parameter_groups(model, lr=0.1, weight_decay=0.1))
    before = {key: value.clone() for key, value in model.named_parameters()}
    seeded = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=seeded)

    # Two steps: the last norm of each residual branch starts at zero and holds back the others.
    for _ in range(2):
        torch.nn.functional.cross_entropy(model(batch), torch.tensor([0, 1, 0, 1])).backward()
        optimiser.step()

    assert [key for key, value in model.named_parameters() if value.equal(before[key])] == []


def test_the_base_rate_and_the_name_survive_saving_and_resuming():
    optimiser = build_optimiser("adamw", groups())
    optimiser.param_groups[0]["lr"] = 0.001
    resumed = build_optimiser("adamw", groups())

    resumed.load_state_dict(optimiser.state_dict())

    assert [g["initial_lr"] for g in resumed.param_groups] == [0.1, 0.01]
    assert [g["name"] for g in resumed.param_groups] == ["a", "b"]
    assert resumed.param_groups[0]["lr"] == 0.001


def test_what_is_not_known_is_refused():
    with pytest.raises(RecipeError, match="adamw, adam, sgd"):
        build_optimiser("lion", groups())
    with pytest.raises(RecipeError, match="momentum"):
        build_optimiser("sgd", groups(), momentum=1.0)
