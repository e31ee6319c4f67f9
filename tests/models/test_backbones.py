import pytest
import torch
import torchvision
from torch import nn

from histo_mlflow.errors import ModelError
from histo_mlflow.models.backbones import build_backbone, full_name, module_names, statistics_of

# One of each torchvision family, with the width its authors published.
FAMILIES = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "efficientnet_v2_s": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "regnet_y_400mf": 440,
    "resnet18": 512,
    "resnet50": 2048,
    "resnext50_32x4d": 2048,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "vgg11_bn": 4096,
    "vit_b_32": 768,
    "wide_resnet50_2": 2048,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_torchvision_backbone_is_the_whole_architecture_but_for_its_classifier(name):
    # Shapes without numbers: all families in seconds. RegNet reads a number while it is made.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        whole = torchvision.models.get_model(name, weights=None)
        backbone = build_backbone(f"torchvision/{name}", 224)

    prefixes = tuple(f"{prefix}." for prefix in backbone.classifiers)
    expected = {k: v.shape for k, v in whole.state_dict().items() if not k.startswith(prefixes)}
    assert backbone.width == FAMILIES[name]
    assert {k: v.shape for k, v in backbone.module.state_dict().items()} == expected
    classifier = [k for k in whole.state_dict() if k.startswith(f"{backbone.classifiers[0]}.")]
    assert len(classifier) == (1 if name == "maxvit_t" else 2)  # its last layer has no bias
    assert whole.state_dict()[classifier[0]].shape[0] == 1000


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
def test_a_timm_backbone_pools_to_one_row_an_image(name):
    backbone = build_backbone(f"timm/{name}", 96)

    assert backbone.module(torch.zeros(2, 3, 96, 96)).shape == (2, backbone.width)
    assert backbone.classifiers


def test_a_bare_name_is_torchvisions_where_it_has_one():
    assert full_name("resnet18") == "torchvision/resnet18"
    assert full_name("timm/resnet18") == "timm/resnet18"
    assert full_name("tf_efficientnet_lite0") == "timm/tf_efficientnet_lite0"
    assert full_name("resnet18.a1_in1k") == "timm/resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet81", "did you mean .*resnet"),
        ("torchvision/tf_efficientnet_lite0", "Neither torchvision nor timm"),
        ("hf-hub:timm/resnet18", "Neither torchvision nor timm"),
        ("", "Neither torchvision nor timm"),
        ("resnet18.of_mine", "no weights 'of_mine' for resnet18; known: .*a1_in1k"),
    ],
)
def test_an_unknown_name_is_refused_with_suggestions(name, says):
    with pytest.raises(ModelError, match=says):
        full_name(name)


def test_statistics_are_those_the_pretrained_weights_were_trained_with():
    assert statistics_of("torchvision/resnet18")[0] == (0.485, 0.456, 0.406)
    assert statistics_of("timm/tf_efficientnet_lite0") == ((0.5,) * 3, (0.5,) * 3)
    # torchvision rescales the input of these two from ImageNet's statistics to [-1, 1].
    assert statistics_of("torchvision/inception_v3") == ((0.5,) * 3, (0.5,) * 3)


def test_a_size_the_architecture_cannot_take_is_refused():
    with pytest.raises(ModelError, match="cannot be built for images of 60 px"):
        build_backbone("timm/test_vit", 60)
    with pytest.raises(ModelError, match="cannot be built for images of 20 px"):
        build_backbone("torchvision/alexnet", 20)


def test_looking_for_the_width_leaves_the_batch_norms_alone():
    module = build_backbone("torchvision/resnet18", 32).module

    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert module.training
    assert all(int(norm.num_batches_tracked) == 0 for norm in norms)
    assert all(bool((norm.running_mean == 0).all()) for norm in norms)


def test_densenets_old_names_are_brought_up_to_date():
    old = {
        "features.denseblock1.denselayer1.norm.1.weight": torch.zeros(1),
        "features.norm5.bias": 0,
    }

    assert list(module_names("torchvision/densenet121", old)) == [
        "features.denseblock1.denselayer1.norm1.weight",
        "features.norm5.bias",
    ]
    assert list(module_names("timm/densenet121", old)) == list(old)
