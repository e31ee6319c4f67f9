import datetime
import hashlib

import pytest
import timm
import torch
import torchvision

from histo_mlflow.errors import WeightsError
from histo_mlflow.models.build import Classifier, build, specify
from histo_mlflow.models.weights import load_pretrained, load_weights, save_weights

SMALL = "timm/test_resnet"


def small(classes: str = "ab", seed: int = 0) -> Classifier:
    return build(specify(SMALL, tuple(classes), image_px=32), seed)


def original(classes: int = 10) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model("test_resnet", num_classes=classes).state_dict()


@pytest.mark.parametrize("classes", [10, 2])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_file_fills_the_backbone_and_names_the_classifier_it_left_out(tmp_path, kind, classes):
    state, path, model = original(classes), tmp_path / f"weights.{kind}", small()
    if kind == "pth":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    head = model.head[-1].weight.clone()

    facts = load_pretrained(model, str(path))

    assert facts.source == path.name
    assert facts.skipped == ("fc.bias", "fc.weight")
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(value.equal(state[name]) for name, value in model.backbone.state_dict().items())
    assert model.head[-1].weight.equal(head)


def test_none_leaves_the_random_weights_and_says_so():
    model = small()
    before = model.backbone.conv1[0].weight.clone()

    facts = load_pretrained(model, "none")

    assert (facts.source, facts.sha256, facts.skipped) == ("none", None, ())
    assert model.backbone.conv1[0].weight.equal(before)


def change_missing(state):
    del state["layer1.0.conv1.weight"]


def change_unexpected(state):
    state["layer9.weight"] = torch.zeros(1)


def change_shape(state):
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_missing, r"1 missing \(layer1.0.conv1.weight\)"),
        (change_unexpected, r"1 unexpected \(layer9.weight\)"),
        (change_shape, r"1 of another shape \(layer1.0.conv1.weight \(1, 2, 3, 3\) instead of"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, change, says):
    state, path, model = original(), tmp_path / "weights.pth", small()
    change(state)
    torch.save(state, path)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with pytest.raises(WeightsError, match=says):
        load_pretrained(model, str(path))

    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_all_that_does_not_fit_is_said_at_once(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w.pth")

    with pytest.raises(WeightsError, match=r"missing .* and \d+ more\); .* unexpected"):
        load_pretrained(small(), str(tmp_path / "w.pth"))


def test_a_file_that_could_run_code_is_refused(tmp_path):
    torch.save({"when": datetime.datetime(2020, 1, 1)}, tmp_path / "weights.pth")

    with pytest.raises(WeightsError, match="could run code"):
        load_pretrained(small(), str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_refused(tmp_path, kind, content):
    path = tmp_path / f"weights.{kind}"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=rf"weights\.{kind}"):
        load_pretrained(small(), str(path))


def test_a_checkpoint_around_the_state_dict_is_refused_with_its_keys(tmp_path):
    torch.save({"epoch": 3, "state_dict": original()}, tmp_path / "weights.pth")

    with pytest.raises(WeightsError, match="keys epoch, state_dict"):
        load_pretrained(small(), str(tmp_path / "weights.pth"))


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(WeightsError, match=r"imagenet, none or a file; there is no file 'imagent'"):
        load_pretrained(small(), "imagent")


def test_files_without_batch_counters_load(tmp_path):
    """torchvision's ResNet files of 2017 have none."""
    state = {k: v for k, v in original().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pth")

    load_pretrained(small(), str(tmp_path / "weights.pth"))


def test_auxiliary_classifiers_of_a_file_are_left_out(tmp_path):
    whole = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True)
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    model = build(specify("googlenet", ("a", "b"), image_px=32))

    facts = load_pretrained(model, str(tmp_path / "googlenet.pth"))

    assert {key.partition(".")[0] for key in facts.skipped} == {"aux1", "aux2", "fc"}


def test_our_own_weights_survive_a_round_trip_in_any_memory_format(tmp_path):
    model, other = small(seed=1).to(memory_format=torch.channels_last), small(seed=2)

    save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")

    state = other.state_dict()
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())


def test_our_own_weights_do_not_load_into_another_head(tmp_path):
    save_weights(small("ab"), tmp_path / "w.safetensors")

    with pytest.raises(WeightsError, match=r"head\.1\.weight"):
        load_weights(small("abc"), tmp_path / "w.safetensors")


def test_real_imagenet_weights_give_the_features_of_timms_own_model(realdata):
    path = realdata / "weights" / "tf_efficientnet_lite0-2d6c2e0f.pth"
    model = build(specify("tf_efficientnet_lite0", ("a", "b", "c"), image_px=96)).eval()
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(torch.load(path, weights_only=True))
    seeded = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=seeded)

    facts = load_pretrained(model, str(path))

    assert facts.sha256.startswith("2d6c2e0f")
    assert facts.skipped == ("classifier.bias", "classifier.weight")
    with torch.inference_mode():
        expected = whole.forward_head(
            whole.forward_features(images.float() / 127.5 - 1), pre_logits=True
        )
        torch.testing.assert_close(model.features(images), expected, rtol=1e-4, atol=1e-4)
