"""Grad-CAM against derivations by hand, and what it leaves behind: nothing."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from histo_mlflow.errors import ModelError
from histo_mlflow.explain.feature_map import FeatureMap, find_feature_map
from histo_mlflow.explain.gradcam import gradcam
from histo_mlflow.models.backbones import Backbone
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.groups import freeze_backbone

CLASSES = ["a", "b", "c"]


def classifier(name: str, px: int = 64, **options) -> Classifier:
    """Random weights, with batch-norm statistics that are not those of an untrained network."""
    model = build(specify(name, CLASSES, image_px=px, **options), seed=1)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the statistics of all images so far
    with torch.no_grad():
        model.train()(noise(8, px, seed=5))
    return model.eval()


def own(backbone: nn.Module, width: int, px: int, output: str = "softmax") -> Classifier:
    """A classifier around a backbone that no library has."""
    classes = CLASSES if output == "softmax" else ["no", "yes"]
    spec = specify("resnet18", classes, image_px=px, output=output, normalisation="none")
    torch.manual_seed(2)
    return Classifier(spec, Backbone(backbone, width, ()), nn.Linear(width, spec.logits)).eval()


def noise(n: int, px: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, px, px), dtype=torch.uint8, generator=generator)


def enlarged(cells: np.ndarray, px: int) -> np.ndarray:
    """Bilinear between the centres of the cells, by hand; the border takes the outer cell."""
    h, w = cells.shape

    def weights(cells_along: int) -> np.ndarray:
        matrix = np.zeros((px, cells_along))
        for i in range(px):
            at = min(max((i + 0.5) * cells_along / px - 0.5, 0), cells_along - 1)
            low = math.floor(at)
            high = min(low + 1, cells_along - 1)
            matrix[i, low] += 1 - (at - low)
            matrix[i, high] += at - low
        return matrix

    return weights(h) @ cells @ weights(w).T


def by_hand(activations: Tensor, logits: Tensor, targets: list[int], px: int) -> np.ndarray:
    """Equations 1 and 2 of Selvaraju et al., one image at a time; activations are (n, C, h, w)."""
    maps = []
    for i, k in enumerate(targets):
        (gradient,) = torch.autograd.grad(logits[i, k], activations, retain_graph=True)
        heat = np.zeros(activations.shape[2:])
        for c in range(activations.shape[1]):
            heat += float(gradient[i, c].double().mean()) * activations[i, c].detach().numpy()
        heat = enlarged(np.maximum(heat, 0), px)
        maps.append(heat / heat.max() if heat.max() > 0 else heat)
    return np.stack(maps)


def places(tokens: Tensor, prefix: int, side: int) -> Tensor:
    """Patch tokens (n, P + N, C) as (n, C, side, side), row after row."""
    grid = [[tokens[:, prefix + row * side + col] for col in range(side)] for row in range(side)]
    return torch.stack([torch.stack(row, dim=2) for row in grid], dim=2)


def resnet(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    x = net.layer4(net.layer3(net.layer2(net.layer1(x)))).detach().requires_grad_()
    return x, x.mean(dim=(2, 3))


def densenet(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = net.features(x).detach().requires_grad_()
    return x, x.clamp(min=0).mean(dim=(2, 3))


def swin(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = net.norm(net.layers(net.patch_embed(x))).permute(0, 3, 1, 2).detach().requires_grad_()
    return x, x.mean(dim=(2, 3))


def vit(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x))))
    for block in net.blocks[:-1]:
        x = block(x)
    last, prefix = net.blocks[-1], net.num_prefix_tokens
    seen = last.norm1(x).detach()
    grid = places(seen, prefix, 4).requires_grad_()
    back = [grid[:, :, i // 4, i % 4] for i in range(16)]
    x = x.detach() + last.ls1(last.attn(torch.stack([*seen[:, :prefix].unbind(1), *back], dim=1)))
    x = x + last.ls2(last.mlp(last.norm2(x)))
    return grid, net.norm(x)[:, :prefix].mean(dim=1)


def averaged_vit(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    grid = places(net.forward_features(x).detach(), net.num_prefix_tokens, 4).requires_grad_()
    return grid, net.fc_norm(grid.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("name", "halves"),
    [
        ("torchvision/resnet18", resnet),
        ("torchvision/densenet121", densenet),  # goes on with an activation in place
        ("timm/swin_tiny_patch4_window7_224", swin),
        ("timm/vit_tiny_patch16_224", vit),
        ("timm/deit_tiny_distilled_patch16_224", vit),
        ("timm/test_vit2", averaged_vit),
    ],
)
def test_the_maps_are_those_of_a_derivation_by_hand(name, halves):
    model, images, targets = classifier(name), noise(4, 64), [0, 2, 1, 1]
    activations, features = halves(model.backbone, model.normalise(images).detach())
    assert torch.allclose(features, model.features(images), atol=1e-5)  # the halves are the whole

    maps = gradcam(model, images, targets, place=find_feature_map(model, least=2))

    assert maps.dtype == np.float32
    expected = by_hand(activations, model.head(features), targets, 64)
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, atol=1e-5)


class Quadrant(nn.Module):
    """Sees nothing but one quadrant of the image: (row, column), each 0 or 1."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.row, self.column = row, column

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros_like(x)
        half = x.shape[-1] // 2
        rows = slice(self.row * half, (self.row + 1) * half)
        mask[:, :, rows, self.column * half : (self.column + 1) * half] = 1
        return self.act(self.conv(x * mask)).mean(dim=(2, 3))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", [0, 1])
def test_a_score_that_depends_on_one_quadrant_is_hot_there(row, column):
    model = own(Quadrant(row, column), 8, 64)
    with torch.no_grad():
        model.head.weight.abs_()

    maps = gradcam(model, noise(2, 64), [0, 1])

    quadrants = maps.reshape(2, 2, 32, 2, 32).mean(axis=(2, 4))
    assert (quadrants[:, row, column] > 0.9 * quadrants.sum(axis=(1, 2))).all()
    assert (maps.max(axis=(1, 2)) == 1).all()


def test_a_sigmoids_first_class_is_the_negative_of_its_logit():
    model = own(Quadrant(0, 0), 8, 64, output="sigmoid")
    turned = copy.deepcopy(model)
    with torch.no_grad():
        turned.head.weight.neg_()
    images = noise(4, 64)

    for k in (0, 1):
        maps = gradcam(model, images, [k] * 4)
        assert maps.max() > 0
        np.testing.assert_array_equal(maps, gradcam(turned, images, [1 - k] * 4))


def test_where_nothing_speaks_for_a_class_the_map_is_0():
    model = own(Quadrant(0, 0), 8, 64)
    with torch.no_grad():
        model.head.weight.abs_()[1].neg_()

    maps = gradcam(model, noise(2, 64), [0, 1])

    assert maps[0].max() == 1
    assert (maps[1] == 0).all()


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/test_vit"])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_stays_as_it_was(name, frozen, training):
    model = classifier(name, dropout=0.5)
    expected = gradcam(model, noise(2, 64), [0, 1])
    if frozen:
        freeze_backbone(model)
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    modes = [part.training for part in model.modules()]
    drawn = torch.random.get_rng_state()

    maps = gradcam(model, noise(2, 64), [0, 1])

    np.testing.assert_array_equal(maps, expected)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags
    assert [part.training for part in model.modules()] == modes
    assert not any(part._forward_hooks for part in model.modules())
    assert torch.equal(torch.random.get_rng_state(), drawn)


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_the_callers_modes_play_no_part(mode):
    model, images = classifier("timm/test_vit"), noise(3, 64)
    expected = gradcam(model, images, [0, 1, 2])

    with mode():
        maps = gradcam(model, images.clone(), [0, 1, 2])

    np.testing.assert_array_equal(maps, expected)


def test_the_size_of_a_batch_changes_nothing():
    model, images = classifier("timm/test_resnet"), noise(5, 64)
    place = find_feature_map(model)

    whole = gradcam(model, images, [0, 1, 2, 0, 1], place=place)
    for size in (1, 2):
        parts = gradcam(model, images, np.array([0, 1, 2, 0, 1]), batch_size=size)
        np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert gradcam(model, images[:0], []).shape == (0, 64, 64)


QUICK = {
    "torchvision/convnext_tiny": ("features", 2),
    "torchvision/efficientnet_b0": ("features", 2),
    "torchvision/googlenet": ("inception5b", 2),
    "torchvision/mnasnet0_5": ("layers", 2),
    "torchvision/mobilenet_v2": ("features", 2),
    "torchvision/mobilenet_v3_small": ("features", 2),
    "torchvision/regnet_y_400mf": ("trunk_output", 2),
    "torchvision/shufflenet_v2_x0_5": ("conv5", 2),
    "torchvision/squeezenet1_1": ("features", 3),
    "torchvision/swin_t": ("permute", 2),
    "timm/test_convnext": ("norm_pre", 2),
    "timm/test_mambaout": ("stages", 2),
    "timm/test_vit": ("blocks.5.norm1", 4),
    "timm/test_vit_relpos": ("norm", 4),
    "timm/tf_efficientnet_lite0": ("bn2", 2),
}
SLOW = {
    "torchvision/alexnet": ("avgpool", 6, 96),
    "torchvision/efficientnet_v2_s": ("features", 2, 64),
    "torchvision/inception_v3": ("Mixed_7c", 3, 160),
    "torchvision/maxvit_t": ("blocks.3", 7, 224),
    "torchvision/resnet50": ("layer4", 2, 64),
    "torchvision/vgg11_bn": ("avgpool", 7, 64),
    "torchvision/vit_b_32": ("encoder.layers.encoder_layer_11.ln_1", 2, 64),
    "torchvision/wide_resnet50_2": ("layer4", 2, 64),
    "timm/eva02_tiny_patch14_224": ("norm", 4, 64),
    "timm/swinv2_cr_tiny_224": ("stages", 2, 64),
}


def check_a_map(name: str, layer: str, cells: int, px: int) -> None:
    model = classifier(name, px)

    place = find_feature_map(model, least=2)
    maps = gradcam(model, noise(2, px), [0, 1], place=place)

    assert (place.name, place.height, place.width) == (layer, cells, cells)
    assert maps.shape == (2, px, px)
    assert 0 <= maps.min() <= maps.max() <= 1


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", QUICK)
def test_backbones_of_either_library_give_their_last_map(name):
    check_a_map(name, *QUICK[name], px=64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", SLOW)
def test_large_backbones_give_their_last_map(name):
    check_a_map(name, *SLOW[name])


def test_where_the_last_map_is_one_cell_the_one_before_it_is_taken():
    model = classifier("torchvision/resnet18", 32)

    assert find_feature_map(model, least=2) == FeatureMap("layer3", "NCHW", 2, 2)


def test_a_map_of_four_cells_either_way_is_taken_where_there_is_one():
    model = classifier("torchvision/resnet18")

    assert find_feature_map(model) == FeatureMap("layer3", "NCHW", 4, 4)
    assert find_feature_map(model, least=65) == FeatureMap("layer4", "NCHW", 2, 2)
    few = find_feature_map(classifier("timm/vit_tiny_patch16_224", 32))
    assert few == FeatureMap("blocks.11.norm1", "tokens", 2, 2, prefix=1)


class Bypassed(nn.Module):
    """Its last map is a branch, beside which the rest of the network passes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.branch = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return (x + self.branch(x)).mean(dim=(2, 3))


def test_a_branch_is_not_taken_for_the_whole():
    assert find_feature_map(own(Bypassed(), 8, 64)).name == "stem"


class Tied(nn.Sequential):
    """A map with as many channels as rows, which could be read either way."""

    def __init__(self) -> None:
        pool = nn.AdaptiveAvgPool2d(1)
        super().__init__(nn.Conv2d(3, 12, 4, stride=4), nn.Conv2d(12, 16, 1), pool, nn.Flatten())


def test_a_map_that_could_be_read_either_way_is_not_taken():
    assert find_feature_map(own(Tied(), 16, 64)) == FeatureMap("0", "NCHW", 16, 16)


def test_a_network_without_a_map_says_so():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8))
    for model in (own(flat, 8, 16), classifier("timm/xcit_nano_12_p16_224")):
        with pytest.raises(ModelError, match=r"no Grad-CAM for \S+ at \d+ px: it has no map"):
            gradcam(model, noise(1, model.spec.image_px), [0])


def test_a_network_that_tells_no_images_apart_says_so():
    model = own(Quadrant(0, 0), 8, 64)
    nn.init.zeros_(model.backbone.conv.weight)
    with pytest.raises(ModelError, match=r"no Grad-CAM for .* two different images the same"):
        gradcam(model, noise(1, 64), [0])


def test_broken_weights_give_no_picture():
    model = own(Quadrant(0, 0), 8, 64)
    place = find_feature_map(model)
    nn.init.constant_(model.head.weight, math.nan)
    with pytest.raises(ModelError, match="NaN or infinite values in the maps of 2 of 2 images"):
        gradcam(model, noise(2, 64), [0, 1], place=place)
    nn.init.constant_(model.backbone.conv.weight, math.nan)
    with pytest.raises(ModelError, match="NaN or infinite features"):
        gradcam(model, noise(2, 64), [0, 1])


@pytest.mark.parametrize(
    ("images", "targets", "told"),
    [
        (noise(2, 64).float(), [0, 1], r"uint8 images of shape \(n, 3, 64, 64\), got .*float32"),
        (noise(2, 32), [0, 1], r"got torch.uint8 of shape \(2, 3, 32, 32\)"),
        (noise(2, 64), [0], "Expected 2 class indices"),
        (noise(2, 64), [0, 3], "from 0 to 2 as integers, got 0 to 3"),
        (noise(2, 64), [0.0, 1.0], "as integers"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(images, targets, told):
    with pytest.raises(ModelError, match=told):
        gradcam(own(Quadrant(0, 0), 8, 64), images, targets)
    with pytest.raises(ModelError, match="batch size of at least 1"):
        gradcam(own(Quadrant(0, 0), 8, 64), noise(1, 64), [0], batch_size=0)
