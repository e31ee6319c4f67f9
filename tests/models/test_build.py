import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from scipy.special import expit, softmax
from torch import nn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.build import ModelSpec, build, probabilities, specify
from histo_mlflow.models.heads import HEADS, build_head
from histo_mlflow.models.normalise import Normalise

SMALL = "timm/test_resnet"


def images(n: int = 4, px: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, px, px), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("output", "logits"), [("softmax", 2), ("sigmoid", 1)])
def test_uint8_images_become_logits(head, output, logits):
    model = build(specify(SMALL, ("a", "b"), head=head, output=output, image_px=32))

    answer = model(images())

    assert answer.shape == (4, logits)
    assert answer.dtype == torch.float32
    assert model.features(images()).ndim == 2


def test_the_model_gives_what_torchvisions_own_pipeline_gives():
    model = build(specify("resnet18", tuple("abcde"), image_px=64)).eval()
    whole = torchvision.models.resnet18(weights=None, num_classes=5).eval()
    whole.load_state_dict(
        {
            **model.backbone.state_dict(),
            "fc.weight": model.head[-1].weight,
            "fc.bias": model.head[-1].bias,
        }
    )
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    expected = whole(normalise(images(px=64).float() / 255))

    torch.testing.assert_close(model(images(px=64)), expected, rtol=1e-4, atol=1e-5)


def test_normalisation_keeps_channels_last_and_stays_out_of_the_state_dict():
    normalise = Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    batch = images().to(memory_format=torch.channels_last)

    answer = normalise(batch)

    reference = (batch.double() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / (
        torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)
    )
    assert answer.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(answer.double(), reference, rtol=1e-5, atol=1e-5)
    assert normalise.state_dict() == {}


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)]
)
def test_anything_but_a_uint8_batch_is_refused(wrong):
    with pytest.raises(ModelError, match=r"uint8 images of shape \(B, 3, H, W\)"):
        Normalise((0, 0, 0), (1, 1, 1))(wrong)


def test_named_normalisations_replace_the_architectures_own():
    assert specify("resnet18", "ab", normalisation="half").mean == (0.5, 0.5, 0.5)
    assert specify(SMALL, "ab", normalisation="imagenet").std == (0.229, 0.224, 0.225)
    assert specify(SMALL, "ab", normalisation="none").std == (1.0, 1.0, 1.0)
    with pytest.raises(ModelError, match="normalisation must be one of auto, imagenet"):
        specify(SMALL, "ab", normalisation="zero")


def test_weights_are_a_function_of_spec_and_seed_and_leave_the_global_generator_alone():
    spec = specify(SMALL, ("a", "b"), image_px=32)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    one, same, other = build(spec, 7), build(spec, 7), build(spec, 8)

    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert torch.equal(one.head[-1].weight, same.head[-1].weight)
    assert torch.equal(one.backbone.conv1[0].weight, same.backbone.conv1[0].weight)
    assert not torch.equal(one.backbone.conv1[0].weight, other.backbone.conv1[0].weight)


def test_a_spec_survives_json():
    spec = specify(SMALL, ("a", "b"), head="hidden", hidden=9, dropout=0.1, output="sigmoid")

    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden": None}, "wrong kind"),
        ({"mean": [0.5, 0.5]}, "three numbers"),
        ({"surprise": 1}, r"unknown \['surprise'\]"),
        ({"output": "argmax"}, "softmax or sigmoid"),
    ],
)
def test_a_damaged_spec_is_refused(change, says):
    values = specify(SMALL, ("a", "b")).to_dict() | change
    with pytest.raises(ModelError, match=says):
        ModelSpec.from_dict(values)


def test_a_spec_without_a_field_is_refused():
    values = specify(SMALL, ("a", "b")).to_dict()
    del values["head"]
    with pytest.raises(ModelError, match=r"missing \['head'\]"):
        ModelSpec.from_dict(values)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": ("a", "b", "c"), "output": "sigmoid"}, "there are 3"),
        ({"classes": ("a",)}, "two or more different classes"),
        ({"classes": ("a", "a")}, "two or more different classes"),
        ({"head": "deep"}, "head must be one of linear, hidden, three"),
        ({"hidden": 0}, "at least 1 unit"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
        ({"image_px": 0}, "image_px"),
    ],
)
def test_what_cannot_be_built_is_refused(change, says):
    spec = specify(SMALL, ("a", "b"))
    with pytest.raises(ModelError, match=says):
        replace(spec, **change)


def test_heads_have_the_layers_their_names_promise():
    three = build_head("three", features=512, outputs=2, hidden=9, dropout=0.25)
    hidden = build_head("hidden", features=512, outputs=7, hidden=9, dropout=0.25)

    kinds = [type(layer).__name__ for layer in three]
    shapes = [tuple(part.weight.shape) for part in three if isinstance(part, nn.Linear)]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert shapes == [(256, 512), (32, 256), (2, 32)]
    assert [tuple(p.weight.shape) for p in hidden if isinstance(p, nn.Linear)] == [(9, 512), (7, 9)]
    assert {part.p for part in three if isinstance(part, nn.Dropout)} == {0.25}


def test_probabilities_agree_with_scipy_and_do_not_saturate():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=20, size=(50, 7)).astype(np.float32)
    one = np.array([[-40.0], [-1.0], [0.0], [17.0], [18.0]], dtype=np.float32)

    several = probabilities(torch.from_numpy(logits), "softmax")
    two = probabilities(torch.from_numpy(one), "sigmoid")

    assert several.dtype == two.dtype == torch.float64
    np.testing.assert_allclose(several, softmax(logits.astype(np.float64), axis=1), rtol=1e-12)
    np.testing.assert_allclose(
        two, np.hstack([expit(-one.astype(np.float64)), expit(one.astype(np.float64))]), rtol=1e-12
    )
    assert two[3, 1] < two[4, 1]
    assert two[4, 0] > 0


@pytest.mark.parametrize(
    ("shape", "output"), [((3, 2), "sigmoid"), ((3, 1), "softmax"), ((3,), "")]
)
def test_probabilities_of_the_wrong_shape_are_refused(shape, output):
    with pytest.raises(ModelError, match="need logits of shape"):
        probabilities(torch.zeros(shape), output)
