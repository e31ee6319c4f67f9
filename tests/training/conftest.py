"""Tiny packed pixels to train on."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from histo_mlflow.data.pack import Item, pack_images
from histo_mlflow.vision.decode import DecodeRule


@pytest.fixture
def packed_noise(tmp_path):
    """Pack n noise images, every other one brighter: (folder of the pack, labels int64 (n,))."""

    def make(n, px):
        rng = np.random.default_rng(0)
        labels = np.arange(n, dtype=np.int64) % 2
        items, digests = [], []
        for i, label in enumerate(labels):
            pixels = rng.integers(0, 156, (px, px, 3)) + 100 * label
            encoded = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(encoded, format="PNG")
            path = tmp_path / f"{i}.png"
            path.write_bytes(encoded.getvalue())
            items.append(Item(id=str(i), path=path, row=None))
            digests.append(hashlib.sha256(encoded.getvalue()).hexdigest())
        pack = pack_images(
            items, digests, DecodeRule(image_px=px), tmp_path / "cache", workers=1, progress=False
        )
        return pack.path, labels

    return make
