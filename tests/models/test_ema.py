import copy

import pytest
import torch

from histo_mlflow.errors import ModelError
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.ema import Ema
from histo_mlflow.models.groups import freeze_backbone


def small() -> Classifier:
    return build(specify("timm/test_resnet", ("a", "b"), image_px=32))


def disturb(model: Classifier, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        else:
            tensor.add_(1)


def test_the_average_follows_its_formula_with_warm_up():
    model = small()
    average = Ema(model, decay=0.3)
    expected = {name: value.double().clone() for name, value in model.state_dict().items()}

    for step in range(6):
        disturb(model, step)
        average.update(model)
        d = min(0.3, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = d * expected[name] + (1 - d) * value.double()

    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        else:
            assert value.equal(model.state_dict()[name])


def test_the_average_is_in_eval_mode_and_takes_no_gradients():
    average = Ema(small(), decay=0.9).model

    assert not any(part.training for part in average.modules())
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_averaging_leaves_the_model_alone():
    model = small()
    freeze_backbone(model)
    before = copy.deepcopy(model.state_dict())

    Ema(model, decay=0.9).update(model)

    assert all(before[name].equal(value) for name, value in model.state_dict().items())
    assert model.head[-1].weight.requires_grad


def test_resuming_continues_as_if_never_stopped():
    model = small()
    one = Ema(model, decay=0.9)
    disturb(model, 1)
    one.update(model)
    other = Ema(small(), decay=0.9)
    other.load_state_dict(copy.deepcopy(one.state_dict()))

    disturb(model, 2)
    one.update(model)
    other.update(model)

    assert one.updates == other.updates == 2
    state = other.model.state_dict()
    assert all(state[name].equal(value) for name, value in one.model.state_dict().items())


def test_a_decay_of_one_is_refused():
    with pytest.raises(ModelError, match=r"\[0, 1\)"):
        Ema(small(), decay=1.0)
