"""Bytes that claim to be images, or could be taken for one."""

import io
import pickle
import struct
import zlib

import numpy as np
from PIL import Image


def picture(seed: int, kind: str = "PNG", side: int = 40, mode: str = "RGB") -> bytes:
    """A small good image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, extra: bytes = b"", rows: int | None = None) -> bytes:
    """A black PNG of one bit a pixel; all of its rows are there unless `rows` says fewer."""
    line = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(line) for _ in range(height if rows is None else rows))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + extra
        + _chunk(b"IDAT", packed + packer.flush())
        + _chunk(b"IEND", b"")
    )


def png_with_text(kind: bytes, unpacked: int) -> bytes:
    """A small PNG with a compressed text or profile that unpacks to many bytes."""
    packed = zlib.compress(b"\0" * unpacked, 9)
    return png(40, 40, extra=_chunk(kind, b"name\0\0" + packed))


def tiff(width: int, height: int, *, next_directory: int = 0, strip: int = 8) -> bytes:
    """A grey TIFF that claims a size and holds one strip of a few bytes."""
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, strip),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    directory += struct.pack("<I", next_directory)
    return b"II*\0" + struct.pack("<I", 8 + strip) + b"\x55" * strip + directory


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = picture(5, "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def saved(kind: str, **options: object) -> bytes:
    """An image in a format that the model does not take."""
    file = io.BytesIO()
    Image.new("RGB", (40, 40), "teal").save(file, kind, **options)
    return file.getvalue()


def frames(kind: str) -> bytes:
    """Three pages or frames in one file."""
    file = io.BytesIO()
    first, *others = (Image.new("RGB", (40, 40), (k, k, k)) for k in (0, 90, 180))
    first.save(file, kind, save_all=True, append_images=others)
    return file.getvalue()


class _Bang:
    """Unpickled, this would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("histo-hostile-canary", "w")


PICKLE = pickle.dumps(_Bang())
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n(%pipe%id) (w) file\nshowpage\n%%EOF\n"
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/Launch/F(id)>>>>endobj\n%%EOF\n"
FITS = b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(2800)
