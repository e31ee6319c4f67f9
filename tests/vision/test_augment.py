"""Batched augmentation equals torchvision one image at a time; each image has its own draw."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image

from histo_mlflow.errors import RecipeError
from histo_mlflow.randomness import Stream, uniforms
from histo_mlflow.vision import _geometry
from histo_mlflow.vision import augment as module
from histo_mlflow.vision.augment import POLICIES, Policy, _Draw, augment, policy

SIDE = 48
EVERYTHING = policy(
    "dermoscopy", hue=0.1, erase_p=0.5, crop_resize_p=0.3, crop_fraction=0.6, rotate_p=0.8
)


def textures(count, side=SIDE, low=0, high=256):
    """Smooth images, so that a pixel's neighbours say something about it; channels_last."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(low, high, (count, 7, 7, 3), dtype=np.uint8)
    fine = [Image.fromarray(c).resize((side, side), Image.Resampling.BILINEAR) for c in coarse]
    return torch.from_numpy(np.stack([np.asarray(image) for image in fine])).permute(0, 3, 1, 2)


def run(images, policy, epoch=0):
    return augment(images, policy, 11, epoch, np.arange(len(images), dtype=np.int64))


@pytest.fixture
def draw(monkeypatch):
    """Set the draws of every image: all 0.5, but for the columns given by name."""

    def set_draws(**columns):
        def drawn(seed, epoch, positions, stream, n):
            numbers = np.full((len(positions), n), 0.5)
            for name, values in columns.items():
                numbers[:, _Draw[name]] = values
            return numbers

        monkeypatch.setattr(module, "uniforms", drawn)

    return set_draws


def spread(values, half, centre=0.0):
    """The draws that make an operation uniform in centre +- half use these values."""
    return ((np.asarray(values) - centre) / half + 1) / 2


def greatest_difference(ours, theirs, margin=0):
    inner = slice(margin, -margin or None)
    return (ours.float() - theirs.float())[..., inner, inner].abs().max().item()


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_flips_and_turns_are_exactly_those_of_torchvision(memory_format):
    images = textures(16).contiguous(memory_format=memory_format)
    hflip = np.arange(16) % 2 == 1
    vflip = np.arange(16) // 2 % 2 == 1
    turns = np.arange(16) // 4
    ours = _geometry.dihedral(images, hflip, vflip, turns)

    for i, image in enumerate(images):
        expected = TF.horizontal_flip(image) if hflip[i] else image
        expected = TF.vertical_flip(expected) if vflip[i] else expected
        assert torch.equal(ours[i], TF.rotate(expected, 90.0 * turns[i]))
    assert ours.is_contiguous(memory_format=memory_format)


def test_flips_take_images_that_are_not_square_and_quarter_turns_do_not():
    images = textures(4)[..., :20]

    assert run(images, POLICIES["flips"]).shape == images.shape
    with pytest.raises(ValueError, match="quarter turns need square images"):
        _geometry.dihedral(images, np.zeros(4, bool), np.zeros(4, bool), np.ones(4, np.int64))


@pytest.mark.parametrize("side", [SIDE, 33])
def test_rotation_scale_and_shift_are_those_of_torchvision(draw, side):
    images = textures(6, side)
    angles = np.array([-30.0, -7.5, 0.0, 10.0, 29.0, 30.0])
    zooms = np.array([0.8, 0.9, 1.0, 1.1, 1.2, 1.0])
    shifts = np.array([-0.1, 0.05, 0.0, 0.1, 0.0, 0.02])
    draw(
        ANGLE=spread(angles, 30),
        SCALE=spread(zooms, 0.2, 1.0),
        SHIFT_X=spread(shifts, 0.1),
        SHIFT_Y=spread(-shifts, 0.1),
    )
    ours = run(images, Policy(rotate_degrees=30, scale=(0.8, 1.2), translate=0.1))

    for i, image in enumerate(images):
        # torchvision's affine turns clockwise and takes a shift in pixels.
        move = {
            "angle": -angles[i],
            "translate": [shifts[i] * side, -shifts[i] * side],
            "scale": zooms[i],
            "shear": [0.0],
            "interpolation": TF.InterpolationMode.BILINEAR,
        }
        expected = TF.affine(image.float(), **move)
        inside = TF.affine(torch.ones_like(image).float(), **move) > 0.999
        assert inside.float().mean() > 0.5
        assert (ours[i].float() - expected)[inside].abs().max() <= 1


def test_rotation_alone_is_that_of_torchvision(draw):
    images = textures(2)
    draw(ANGLE=spread([30, -12], 45))
    ours = run(images, policy("none", rotate_degrees=45))

    for image, turned, angle in zip(images, ours, (30, -12), strict=True):
        expected = TF.rotate(image, angle, TF.InterpolationMode.BILINEAR)
        assert greatest_difference(turned, expected, margin=14) <= 1


def test_crop_and_resize_is_that_of_torchvision(draw):
    images = textures(2)
    draw(CROP=[0.1, 0.9])
    ours = run(images, policy("none", crop_resize_p=0.5, crop_fraction=0.5))
    expected = TF.resize(TF.center_crop(images[0], [SIDE // 2]), [SIDE], antialias=True)

    # At the border the crop's own edge repeats there, where ours still sees the pixels beyond.
    assert greatest_difference(ours[0], expected, margin=1) <= 1
    assert torch.equal(ours[1], images[1])


def test_borders_are_reflected_and_never_black():
    plain = torch.full((8, 3, SIDE, SIDE), 200, dtype=torch.uint8)
    moved = run(plain, Policy(rotate_degrees=180, scale=(0.5, 0.7), translate=0.5))

    assert (moved == 200).all()


@pytest.mark.parametrize(
    ("name", "adjust", "half"),
    [
        ("brightness", TF.adjust_brightness, 0.5),
        ("contrast", TF.adjust_contrast, 0.5),
        ("saturation", TF.adjust_saturation, 0.5),
    ],
)
def test_a_colour_factor_means_what_it_means_in_torchvision(draw, name, adjust, half):
    images = textures(5)
    factors = np.array([0.5, 0.8, 1.0, 1.25, 1.5])
    draw(**{name.upper(): spread(factors, half, 1.0)})
    ours = run(images, policy("none", **{name: half}))

    for image, varied, factor in zip(images, ours, factors, strict=True):
        expected = adjust(image.float() / 255, factor) * 255
        assert greatest_difference(varied, expected) <= 0.51


def test_a_hue_shift_means_what_it_means_in_torchvision(draw):
    images = torch.cat([textures(5), textures(1, low=90, high=91)])
    shifts = np.array([-0.5, -0.2, 0.0, 0.1, 0.4, 0.3])
    draw(HUE=spread(shifts, 0.5))
    ours = run(images, policy("none", hue=0.5))

    for image, varied, shift in zip(images, ours, shifts, strict=True):
        assert greatest_difference(varied, TF.adjust_hue(image.float() / 255, shift) * 255) <= 0.51


def test_the_colour_steps_in_one_equal_those_one_by_one_where_nothing_saturates(draw):
    images = textures(3, low=90, high=150)
    brightness, contrast, saturation = np.array([[0.9, 1.1, 1.2], [1.2, 0.8, 1.0], [0.7, 1.3, 0.9]])
    draw(
        BRIGHTNESS=spread(brightness, 0.3, 1.0),
        CONTRAST=spread(contrast, 0.3, 1.0),
        SATURATION=spread(saturation, 0.3, 1.0),
    )
    ours = run(images, policy("none", brightness=0.3, contrast=0.3, saturation=0.3))

    for i, image in enumerate(images):
        expected = TF.adjust_brightness(image.float() / 255, brightness[i])
        expected = TF.adjust_contrast(expected, contrast[i])
        expected = TF.adjust_saturation(expected, saturation[i])
        assert greatest_difference(ours[i], expected * 255) <= 0.6


def test_erasing_paints_one_rectangle_of_the_mean_colour():
    images = textures(200)
    erased = run(images, policy("none", erase_p=0.5, erase_area=(0.05, 0.3)))
    changed = [i for i in range(200) if not torch.equal(erased[i], images[i])]

    assert 70 < len(changed) < 130
    for i in changed:
        mean = images[i].float().mean(dim=(1, 2)).round().to(torch.uint8)[:, None, None]
        differs = (erased[i] != images[i]).any(dim=0)
        rows, columns = differs.any(1).nonzero().ravel(), differs.any(0).nonzero().ravel()
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
        assert torch.equal(erased[i], TF.erase(images[i], top, left, height, width, mean))
        assert 0.02 < height * width / SIDE**2 < 0.34


@pytest.mark.parametrize("chosen", [*POLICIES.values(), EVERYTHING], ids=[*POLICIES, "everything"])
def test_a_sample_comes_out_the_same_in_whatever_batch(chosen):
    images, positions = textures(24), np.arange(100, 124)
    whole = augment(images, chosen, 5, 2, positions)
    order = np.random.default_rng(0).permutation(24)
    shuffled = augment(images[order], chosen, 5, 2, positions[order])
    parts = [augment(images[i : i + 1], chosen, 5, 2, positions[i : i + 1]) for i in range(24)]

    assert torch.equal(shuffled, whole[order])
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8


@pytest.mark.parametrize("chosen", [POLICIES["pcam_kaggle"], EVERYTHING], ids=["flips", "all"])
def test_the_memory_format_is_kept_and_makes_no_difference(chosen):
    images = textures(12)
    planar = images.contiguous()
    ours, theirs = run(images, chosen), run(planar, chosen)

    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert theirs.is_contiguous()
    assert torch.equal(ours, theirs)


def test_seed_and_epoch_change_the_outcome_and_the_input_is_left_alone():
    images = textures(12)
    before = images.clone()
    one, two = run(images, EVERYTHING, epoch=0), run(images, EVERYTHING, epoch=1)

    assert not torch.equal(one, two)
    assert torch.equal(run(images, EVERYTHING, epoch=0), one)
    assert torch.equal(images, before)


def test_dihedral_shows_all_eight_views_equally_often():
    square = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(8000, 3, 2, 2)
    for name in ("dihedral", "pcam_kaggle"):
        views = run(square.contiguous(), POLICIES[name])[:, 0].reshape(-1, 4)
        _, counts = views.unique(dim=0, return_counts=True)

        assert len(counts) == 8
        assert (counts - 1000).abs().max() < 150


def test_switching_an_operation_on_leaves_the_draws_of_others():
    images = textures(12)
    flipped = run(images, POLICIES["flips"])
    # A brightness of almost nothing rounds back to the same pixels.
    both = run(images, policy("flips", brightness=1e-6))

    assert torch.equal(flipped, both)


def test_the_draws_are_those_of_the_augment_stream(draw):
    numbers = uniforms(11, 0, np.arange(12), Stream.AUGMENT, len(_Draw))
    images = textures(12)
    expected = run(images, EVERYTHING)
    draw(**{column.name: numbers[:, column] for column in _Draw})

    assert torch.equal(run(images, EVERYTHING), expected)


def test_only_none_is_not_random_and_gives_the_images_themselves():
    images = textures(2)

    assert [name for name, known in POLICIES.items() if not known.is_random] == ["none"]
    assert not policy("none", crop_resize_p=0.5).is_random
    assert run(images, POLICIES["none"]) is images
    assert run(images[:0], EVERYTHING).shape == (0, 3, SIDE, SIDE)


def test_an_unknown_policy_or_field_names_those_there_are():
    with pytest.raises(
        RecipeError, match=r"'histolgy', did you mean 'histology'\? known are: none"
    ):
        policy("histolgy")
    with pytest.raises(RecipeError, match=r"no field 'rotate', .* known are: hflip_p"):
        policy("none", rotate=3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hflip_p": 1.5},
        {"brightness": -0.1},
        {"hue": 0.6},
        {"rotate_degrees": 200},
        {"crop_fraction": 0},
        {"scale": (1.2, 0.8)},
        {"erase_area": (0.1, 2.0)},
        {"translate": float("nan")},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        policy("none", **wrong)


def test_what_is_no_batch_of_uint8_images_is_refused():
    with pytest.raises(ValueError, match=r"uint8 \(B, 3, H, W\)"):
        run(textures(2).float(), EVERYTHING)
    with pytest.raises(ValueError, match="2 positions were expected"):
        augment(textures(2), EVERYTHING, 0, 0, np.arange(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("chosen", [*POLICIES.values(), EVERYTHING], ids=[*POLICIES, "everything"])
def test_cuda_gives_the_same_pixels_up_to_rounding(chosen):
    images = textures(24)
    ours = run(images.cuda(), chosen)

    assert ours.is_cuda or not chosen.is_random
    assert greatest_difference(ours.cpu(), run(images, chosen)) <= 1
