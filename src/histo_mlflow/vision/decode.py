"""The one rule from the bytes of an image to uint8 pixels. Training and serving both call it.

What is taken: JPEG, PNG and TIFF, told apart by their first bytes, never by a file name. Nothing
else is even opened. The size is read from the header and refused above `MAX_PIXELS` before any
pixel is decoded. Animated PNGs and TIFFs of several pages are refused, since which page is meant
is not written anywhere. The EXIF orientation is applied, and sizes are those after it.

What becomes of each mode:

| mode of the file | pixels |
|---|---|
| RGB | as they are; a 16-bit RGB PNG keeps the high byte of each value, as Pillow reads it |
| L, 1, P | grey copied to three channels; a palette looked up |
| I;16 | the full 16-bit range mapped to 8 bits, v / 257 rounded, then as L |
| RGBA, LA, PA, any other with transparency | composited on white, the colour of an empty slide |
| CMYK and all others | refused: their colours depend on a profile that is not applied here |

Resizing is Pillow's bilinear filter with antialiasing, in one step, without `reducing_gap`.
"""

import dataclasses
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from histo_mlflow.errors import DataError, ImageError

ALLOWED_FORMATS = ("JPEG", "PNG", "TIFF")
MAX_PIXELS = 64_000_000
MODES = ("RGB", "L", "1", "P", "I;16", "I;16B", "RGBA", "LA", "PA", "RGBa", "La")
RULE_VERSION = 1

Fit = Literal["cover", "squash", "crop"]
Pixels = npt.NDArray[np.uint8]

# The classes are called instead of Image.open, which tries every format that is installed and
# warns about large images in a way that only a process-wide setting can turn off.
_SIGNATURES: tuple[tuple[bytes, Callable[[BytesIO], Image.Image]], ...] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TiffImagePlugin.TiffImageFile),
)
# What Pillow's readers raise on damaged data: besides OSError, whatever the parsing trips over.
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ENDED_EARLY = ("truncated", "not enough", "unpack requires", "broken data stream", "end of file")
# warnings.catch_warnings swaps a process-wide list, so threads take turns in it.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class DecodeRule:
    """How an image of any size becomes a square of `image_px` pixels.

    fit "cover": the largest centred square, scaled to `image_px` (the short side is scaled to
    `image_px` and the long one cut equally at both ends, rounded down to whole source pixels).
    fit "squash": both sides are scaled to `image_px`; the aspect ratio is lost.
    fit "crop": the centred square of `crop_px` source pixels, scaled to `image_px` if it differs;
    pixels outside of the crop have no influence.
    draft: let the JPEG decoder shrink by 2, 4 or 8 while it decodes, where the image stays at
    least `image_px` on both sides. About twice as fast on large JPEGs, and the pixels differ by
    a few grey levels from those without; it belongs to the rule, so both never mix in silence.
    """

    image_px: int
    fit: Fit = "cover"
    crop_px: int | None = None
    draft: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.image_px <= 8000:
            raise DataError(f"image_px must lie in 1 to 8000, got {self.image_px}")
        if self.fit not in get_args(Fit):
            raise DataError(f"fit must be one of {', '.join(get_args(Fit))}, got {self.fit!r}")
        if self.fit == "crop" and (self.crop_px is None or self.crop_px < 1):
            raise DataError(f"fit 'crop' needs crop_px of at least 1, got {self.crop_px}")
        if self.fit != "crop" and self.crop_px is not None:
            raise DataError(
                f"crop_px={self.crop_px} has no meaning for fit {self.fit!r}: "
                "leave it out, or set fit to 'crop'"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON values, with its version."""
        return {"rule_version": RULE_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DecodeRule":
        """Return the rule that `to_dict` wrote.

        Raises:
            DataError: another version, a field missing or unknown, or a value out of range.
        """
        fields = dict(values)
        version = fields.pop("rule_version", None)
        if version != RULE_VERSION:
            raise DataError(
                f"a decode rule of version {RULE_VERSION} was expected, got version {version}: "
                "use the release of histo-mlflow that wrote it"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        if fields.keys() != known:
            raise DataError(
                f"a decode rule has the fields {sorted(known)}, got {sorted(fields.keys())}"
            )
        return cls(**fields)


@dataclass(frozen=True)
class ImageFacts:
    """What an image file holds: the format and the mode as stored, the size after EXIF orientation.

    `constant` says that every pixel has the same value.
    """

    format: str
    mode: str
    width: int
    height: int
    constant: bool


def decode(data: bytes, rule: DecodeRule, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an image into the pixels that a model sees.

    Args:
        data: the whole file, JPEG, PNG or TIFF.
        rule: the geometry.
        max_pixels: refuse a larger image, as its header says; never more than `MAX_PIXELS`.

    Returns:
        RGB, uint8, shape (image_px, image_px, 3), C-contiguous, writable.

    Raises:
        ImageError: empty, truncated, damaged, too large, another format or mode, several pages,
            or smaller than the crop. The message is the reason, without a path.
    """
    image = _open(data, max_pixels)
    if rule.draft and rule.fit != "crop" and image.format == "JPEG":
        image.draft(None, (rule.image_px, rule.image_px))
    return _fit(_to_rgb(_load(image, data)), rule)


def from_array(pixels: Pixels, rule: DecodeRule) -> Pixels:
    """Bring pixels that are decoded already (a row of an HDF5 file) into the same geometry.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        rule: the geometry.

    Returns:
        RGB, uint8, shape (image_px, image_px, 3), C-contiguous, a copy.

    Raises:
        ImageError: another shape or dtype, or smaller than the crop.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(
            f"uint8 pixels of shape (H, W, 3) were expected, got {pixels.dtype} {pixels.shape}"
        )
    return _fit(Image.fromarray(np.ascontiguousarray(pixels)), rule)


def inspect(data: bytes) -> ImageFacts:
    """Decode an image fully and say what it holds.

    A mode that `decode` refuses, such as CMYK, is no error here: the facts name it, and `MODES`
    lists those that are taken.

    Raises:
        ImageError: as for `decode`, but for the mode and the crop.
    """
    image = _open(data)
    stored, mode = str(image.format), image.mode
    image = _load(image, data)
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    constant = all(low == high for low, high in bands)
    return ImageFacts(stored, mode, image.width, image.height, constant)


def _open(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header and refuse what must not be decoded."""
    if not data:
        raise ImageError("empty file")
    reader = next((reader for magic, reader in _SIGNATURES if data.startswith(magic)), None)
    if reader is None:
        raise ImageError("not a JPEG, PNG or TIFF")
    try:
        with _quiet():
            image = reader(BytesIO(data))
            pages = getattr(image, "n_frames", 1)
    except _DAMAGE as error:
        raise ImageError(_reason(error, data)) from error
    most = min(max_pixels, MAX_PIXELS)
    if image.width * image.height > most:
        raise ImageError(
            f"too large: {image.width:,} x {image.height:,} pixels, at most {most:,} are read"
        )
    if pages != 1:
        raise ImageError(f"{pages} pages or frames in one {image.format}, one was expected")
    return image


def _load(image: Image.Image, data: bytes) -> Image.Image:
    """Decode every pixel and turn the image as its EXIF orientation says."""
    try:
        if image.format == "TIFF":
            # Reading its tags, and turning it, is a part of loading it.
            with _quiet():
                image.load()
            return image
        image.load()
        if "exif" in image.info:
            with _quiet():
                image = ImageOps.exif_transpose(image)
    except _DAMAGE as error:
        raise ImageError(_reason(error, data)) from error
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings about odd headers: what matters is whether the pixels decode."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: BaseException, data: bytes) -> str:
    text = str(error).lower()
    if isinstance(error, EOFError | struct.error) or any(sign in text for sign in _ENDED_EARLY):
        return f"truncated: the data end after {len(data):,} bytes, before the image is complete"
    return f"damaged: the {len(data):,} bytes cannot be decoded ({type(error).__name__})"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode not in MODES:
        raise ImageError(
            f"mode {image.mode} cannot be read, since its colours depend on a profile: "
            "convert the image to RGB"
        )
    if image.mode.startswith("I;16"):
        # Pillow's own conversion cuts everything above 255 off.
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _fit(image: Image.Image, rule: DecodeRule) -> Pixels:
    target = (rule.image_px, rule.image_px)
    if rule.fit == "crop":
        assert rule.crop_px is not None  # noqa: S101 -- DecodeRule holds it
        if rule.crop_px > min(image.size):
            raise ImageError(
                f"{image.width} x {image.height} pixels, too small for a crop of {rule.crop_px}"
            )
        image = image.crop(_centred(image, rule.crop_px))
    if image.size != target:
        side = min(image.size)
        box = (0, 0, *image.size) if rule.fit == "squash" else _centred(image, side)
        if box == (0, 0, *image.size) or side != rule.image_px:
            image = image.resize(target, Image.Resampling.BILINEAR, box=box, reducing_gap=None)
        else:
            image = image.crop(box)
    return np.array(image, dtype=np.uint8)


def _centred(image: Image.Image, side: int) -> tuple[int, int, int, int]:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side
