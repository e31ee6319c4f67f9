"""Features are what the head is given, and asking for them changes nothing."""

import numpy as np
import pytest
import torch

from histo_mlflow.data.batches import PackedDataset
from histo_mlflow.data.pack import Item, pack_images
from histo_mlflow.device import plan_device
from histo_mlflow.errors import DataError
from histo_mlflow.explain.features import features
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.groups import freeze_backbone
from histo_mlflow.vision.decode import DecodeRule
from layouts import picture

PLAN = plan_device("cpu", "fp32", "contiguous", 1)
CLASSES = ("a", "b", "c")
NAMES = (
    ("torchvision/resnet18", 32),
    ("torchvision/squeezenet1_1", 64),
    ("torchvision/vgg11_bn", 32),
    ("timm/vit_tiny_patch16_224", 64),
    ("timm/tf_efficientnet_lite0", 64),
)


def noise(n, px):
    return np.random.default_rng(0).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


def made(name="torchvision/resnet18", px=32, head="linear"):
    return build(specify(name, CLASSES, head=head, image_px=px), 0)


@pytest.mark.parametrize(("name", "px"), NAMES)
def test_features_are_the_vector_that_the_head_is_given(name, px):
    model, pixels, given = made(name, px, head="hidden"), noise(3, px), []
    model.head.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    model.eval()
    with torch.inference_mode():
        model(torch.from_numpy(pixels).permute(0, 3, 1, 2))

    found = features(model, pixels, batch_size=2, plan=PLAN)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, given[0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_mode_weights_and_statistics_are_as_before(training):
    model = made().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    features(model, noise(4, 32), batch_size=4, plan=PLAN)

    assert model.training is training
    assert all(part.training is training for part in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_frozen_backbone_stays_in_evaluation():
    model = made()
    freeze_backbone(model)
    model.train()

    features(model, noise(2, 32), batch_size=2, plan=PLAN)

    assert (model.training, model.backbone.training) == (True, False)


def test_a_data_set_and_its_pixels_give_the_same_in_any_portions(tmp_path):
    items = []
    for i in range(7):
        picture(i, i % 3).save(tmp_path / f"{i}.png")
        items.append(Item(f"i{i}", tmp_path / f"{i}.png"))
    rule = DecodeRule(image_px=32, fit="squash")
    pack = pack_images(items, [str(i) for i in range(7)], rule, tmp_path, progress=False)
    rows = np.array([5, 0, 3, 6])
    model = made()

    of_set = features(
        model, PackedDataset(pack.path, rows, np.zeros(4, np.int64)), batch_size=3, plan=PLAN
    )
    of_pixels = features(model, pack.pixels()[rows], batch_size=64, plan=PLAN)

    np.testing.assert_allclose(of_set, of_pixels, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_into_memory_is_done_in_smaller_portions(monkeypatch):
    model, sizes = made(), []
    real = model.features

    def tight(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise MemoryError
        return real(images)

    expected = features(model, noise(5, 32), batch_size=2, plan=PLAN)
    monkeypatch.setattr(model, "features", tight)
    found = features(model, noise(5, 32), batch_size=8, plan=PLAN)

    np.testing.assert_array_equal(expected, found)
    assert sizes == [5, 4, 2, 2, 1]


def test_no_images_have_features_of_the_same_width():
    assert features(made(), noise(0, 32), batch_size=8, plan=PLAN).shape == (0, 512)


def test_what_is_no_array_of_images_is_refused():
    with pytest.raises(DataError, match=r"Expected uint8 .* got float32 \(1, 32, 32, 3\)"):
        features(made(), noise(1, 32).astype(np.float32), batch_size=1, plan=PLAN)
