"""One rule from bytes to pixels: geometry, modes, orientation, and what is refused."""

import io
import json
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from histo_mlflow.errors import DataError, ImageError
from histo_mlflow.vision.decode import MAX_PIXELS, DecodeRule, decode, from_array, inspect

RULE = DecodeRule(16)


def texture(width=24, height=16, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_an_image_of_the_right_size_keeps_its_pixels(kind):
    data = encoded(texture(16, 16), kind)
    pixels = decode(data, RULE)

    assert (pixels == np.asarray(Image.open(io.BytesIO(data)))).all()
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs_are_read(compression):
    image = texture(16, 16)

    assert (decode(encoded(image, "TIFF", compression=compression), RULE) == image).all()


def test_cover_scales_the_short_side_and_cuts_the_long_one():
    image = texture(60, 40)
    scaled = np.asarray(image.resize((30, 20), Image.Resampling.BILINEAR)).astype(int)
    pixels = decode(encoded(image), DecodeRule(20)).astype(int)

    assert np.abs(pixels - scaled[:, 5:25]).max() <= 1


def test_cover_only_cuts_where_the_short_side_fits():
    image = texture(23, 16)

    assert (decode(encoded(image), RULE) == np.asarray(image)[:, 3:19]).all()


def test_squash_scales_both_sides():
    image = texture(60, 40)
    expected = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR))

    assert (decode(encoded(image), DecodeRule(20, "squash")) == expected).all()


def test_crop_takes_source_pixels_and_ignores_the_rest():
    image = texture(24, 17)
    pixels = np.asarray(image)
    framed = pixels.copy()
    framed[:4], framed[12:], framed[:, :8], framed[:, 16:] = 0, 0, 0, 0

    exact = decode(encoded(image), DecodeRule(8, "crop", crop_px=8))
    assert (exact == pixels[4:12, 8:16]).all()
    enlarged = DecodeRule(16, "crop", crop_px=8)
    assert (
        decode(encoded(image), enlarged) == decode(encoded(Image.fromarray(framed)), enlarged)
    ).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255

    pixels = decode(encoded(Image.fromarray(stripes)), DecodeRule(8))
    assert np.abs(pixels.astype(int) - 127).max() <= 12


@pytest.mark.parametrize(
    "rule", [RULE, DecodeRule(16, "squash"), DecodeRule(16, "crop", crop_px=12), DecodeRule(24)]
)
def test_an_array_gets_the_same_geometry_as_a_file(rule):
    image = texture()

    assert (from_array(np.asarray(image), rule) == decode(encoded(image), rule)).all()


def test_an_array_of_the_right_size_is_copied():
    pixels = np.asarray(texture(16, 16))

    assert not np.shares_memory(from_array(pixels, RULE), pixels)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_array_that_is_no_rgb_image_is_refused(pixels):
    with pytest.raises(ImageError, match=r"uint8 pixels of shape \(H, W, 3\)"):
        from_array(pixels, RULE)


def test_grey_and_palette_modes_become_rgb():
    grey = texture(16, 16).convert("L")
    palette = texture(16, 16).quantize(16)
    bits = grey.convert("1")

    assert (decode(encoded(grey), RULE) == np.asarray(grey)[..., None]).all()
    assert (decode(encoded(palette), RULE) == np.asarray(palette.convert("RGB"))).all()
    assert (decode(encoded(bits), RULE) == np.asarray(bits.convert("L"))[..., None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_full_range(kind):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = decode(encoded(Image.fromarray(values), kind), RULE)

    assert np.abs(pixels[..., 0] - values / 257).max() <= 0.5
    assert pixels.max() == 255


def test_transparency_is_laid_on_white():
    image = np.zeros((16, 16, 4), np.uint8)
    image[..., 0], image[:8, :, 3], image[8:, :, 3] = 200, 0, 255
    pixels = decode(encoded(Image.fromarray(image)), RULE)

    assert (pixels[:8] == 255).all()
    assert (pixels[8:] == (200, 0, 0)).all()


def test_a_transparent_colour_is_laid_on_white():
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[8:] = 9
    data = encoded(Image.fromarray(rgb), transparency=(0, 0, 0))
    grey = encoded(Image.fromarray(rgb[..., 0]), transparency=0)

    for pixels in (decode(data, RULE), decode(grey, RULE)):
        assert (pixels[:8] == 255).all()
        assert (pixels[8:] == 9).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(texture(24, 16), kind, exif=exif, **options)
    stored = np.asarray(Image.open(io.BytesIO(encoded(texture(24, 16), kind, **options))))
    expected = turn(stored)

    facts = inspect(data)
    assert (facts.height, facts.width) == expected.shape[:2]
    assert (decode(data, RULE) == from_array(expected, RULE)).all()


def test_draft_changes_large_jpegs_little_and_small_ones_not_at_all():
    large, small = encoded(texture(640, 480), "JPEG"), encoded(texture(31, 31), "JPEG")
    draft = DecodeRule(16, draft=True)

    difference = decode(large, draft).astype(int) - decode(large, RULE)
    assert 0 < np.abs(difference).max() < 12
    assert (decode(small, draft) == decode(small, RULE)).all()


def test_inspect_states_what_a_file_holds():
    assert inspect(encoded(texture(24, 16), "JPEG")).__dict__ == {
        "format": "JPEG",
        "mode": "RGB",
        "width": 24,
        "height": 16,
        "constant": False,
    }
    assert inspect(encoded(Image.new("RGB", (4, 4), (9, 8, 7)), "TIFF")).constant
    assert inspect(encoded(Image.new("L", (4, 4), 9))).constant
    assert inspect(encoded(Image.new("CMYK", (4, 4)), "JPEG")).mode == "CMYK"


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_refused(kind):
    with pytest.raises(ImageError, match="mode CMYK cannot be read"):
        decode(encoded(Image.new("CMYK", (16, 16)), kind), RULE)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("read", [lambda data: decode(data, RULE), inspect])
def test_other_formats_are_refused(kind, read):
    with pytest.raises(ImageError, match="not a JPEG, PNG or TIFF"):
        read(encoded(texture(), kind))


@pytest.mark.parametrize("read", [lambda data: decode(data, RULE), inspect])
def test_nothing_at_all_is_refused(read):
    with pytest.raises(ImageError, match="empty file"):
        read(b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused_with_its_length(kind, share):
    data = encoded(texture(96, 96), kind)
    cut = data[: int(len(data) * share)]

    with pytest.raises(ImageError, match=f"(truncated|damaged).*{len(cut):,} bytes"):
        inspect(cut)
    with pytest.raises(ImageError):
        decode(cut, RULE)


def test_too_many_pixels_are_refused_before_any_is_decoded():
    # A PNG header that claims 2 gigapixels, without any pixels behind it.
    header = struct.pack(">IIBBBBB", 50_000, 40_000, 8, 2, 0, 0, 0)
    small = encoded(texture())
    claimed = small[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=f"too large: 50,000 x 40,000 .* {MAX_PIXELS:,}"):
            inspect(claimed + small[33:])


def test_several_pages_are_refused():
    pages = encoded(texture(), "TIFF", save_all=True, append_images=[texture(seed=1)])
    frames = encoded(texture(), "PNG", save_all=True, append_images=[texture(seed=1)])

    for data, kind in ((pages, "TIFF"), (frames, "PNG")):
        with pytest.raises(ImageError, match=f"2 pages or frames in one {kind}"):
            decode(data, RULE)


def test_an_image_smaller_than_the_crop_is_refused():
    with pytest.raises(ImageError, match="24 x 16 pixels, too small for a crop of 20"):
        decode(encoded(texture()), DecodeRule(16, "crop", crop_px=20))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.filterwarnings("error")
def test_damaged_bytes_give_pixels_or_a_reason_and_no_warning(kind):
    rng = np.random.default_rng(1)
    whole = encoded(texture(), kind)
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        for read in (lambda damaged: decode(damaged, RULE), inspect):
            try:
                read(bytes(data))
            except ImageError as error:
                assert "/" not in str(error)  # noqa: PT017 -- an error is one of two good outcomes


def test_a_rule_survives_json():
    for rule in (RULE, DecodeRule(49, "crop", crop_px=49, draft=True)):
        assert DecodeRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule_version": 2}, "version 1 was expected, got version 2"),
        ({"colour": 1}, "has the fields"),
        ({"fit": "stretch"}, "fit must be one of cover, squash, crop, got 'stretch'"),
        ({"image_px": 0}, "image_px must lie in 1 to 8000, got 0"),
        ({"fit": "crop"}, "needs crop_px"),
        ({"crop_px": 8}, "no meaning for fit 'cover'"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        DecodeRule.from_dict(RULE.to_dict() | change)


def test_real_images_decode(realdata):
    files = [
        *sorted((realdata / "pcam_kaggle" / "train").glob("*.tif"))[:5],
        *sorted((realdata / "ham10000" / "HAM10000_images_part_1").glob("*.jpg"))[:5],
        *sorted((realdata / "he_tissue_1120").rglob("*.jpg"))[:2],
    ]
    assert len(files) == 12
    for file in files:
        data = file.read_bytes()
        width, height = Image.open(file).size
        facts = inspect(data)
        assert (facts.mode, facts.width, facts.height, facts.constant) == (
            "RGB",
            width,
            height,
            False,
        )
        assert decode(data, DecodeRule(96)).std() > 5
