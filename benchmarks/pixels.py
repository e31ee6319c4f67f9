"""What packing the pixels and augmenting them in batches is worth, in CPU-seconds of one core.

1. A shuffled batch gathered from the pack, against opening and decoding each TIFF with Pillow.
   Claim: >= 60 times.
2. The whole loader with flips and quarter turns, against a plain Dataset and DataLoader in the way
   the sources write them: Image.open in __getitem__, torchvision's flips and RandomRotation(90),
   ToTensor, Normalize. Claim: >= 10 times. Normalisation is a part of the model here, so it is
   shown once without and once with it.

2,000 generated TIFFs of 96 px in PCam's layout (uncompressed, as Kaggle ships them), all in the
page cache; one thread; 5 pairs in one process. `python benchmarks/pixels.py` prints the table.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision.transforms as T
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from _timing import Row, pairs, report
from histo_mlflow.data.batches import PackedDataset, batches, epoch_order
from histo_mlflow.data.pack import Item, pack_images
from histo_mlflow.vision.augment import augment, policy
from histo_mlflow.vision.decode import DecodeRule

SIDE = 96
BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PlainDataset(Dataset[tuple[torch.Tensor, int]]):
    """The data set of the sources: a file is opened and decoded whenever it is asked for."""

    def __init__(self, paths: list[Path], labels: npt.NDArray[np.int64]) -> None:
        self.paths, self.labels = paths, labels
        self.transform = T.Compose(
            [
                T.RandomHorizontalFlip(),
                T.RandomVerticalFlip(),
                T.RandomRotation(90),
                T.ToTensor(),
                T.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.paths[index]).convert("RGB")
        return self.transform(image), int(self.labels[index])


def write_tiffs(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:05d}.tif" for i in range(count)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(90, 250, (12, 12, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return paths


def measure(count: int, repeats: int, folder: Path) -> list[Row]:
    paths = write_tiffs(folder, count)
    labels = np.arange(count, dtype=np.int64) % 2
    items = [Item(path.stem, path) for path in paths]
    names = [item.id for item in items]
    pack = pack_images(items, names, DecodeRule(SIDE), folder / "cache", progress=False)
    packed = PackedDataset(pack.path, np.arange(count), labels)
    order = epoch_order(count, 0, 0, sampling="shuffled")
    chosen = policy("pcam_kaggle")
    scale = (1 / (255 * torch.tensor(STD)))[:, None, None]
    shift = (torch.tensor(MEAN) / torch.tensor(STD))[:, None, None]

    def decode_each() -> None:
        for index in order:
            np.asarray(Image.open(paths[index]).convert("RGB"))

    def gather() -> None:
        for _ in batches(packed, order, BATCH, drop_last=False):
            pass

    def ours() -> None:
        for batch in batches(packed, order, BATCH, drop_last=False):
            augment(batch.images, chosen, 0, 0, batch.positions)

    def ours_normalised() -> None:
        for batch in batches(packed, order, BATCH, drop_last=False):
            images = augment(batch.images, chosen, 0, 0, batch.positions)
            images.float().mul_(scale).sub_(shift)

    def plain() -> None:
        for _ in DataLoader(PlainDataset(paths, labels), BATCH, shuffle=True):
            pass

    def cpu_pairs(a: Callable[[], None], b: Callable[[], None]) -> list[tuple[float, float]]:
        return pairs(a, b, repeats, clock=time.process_time)

    return [
        Row("gather from the pack", "PIL decode", cpu_pairs(gather, decode_each), count, ">= 60x"),
        Row(
            "pack + augment, uint8", "Dataset + DataLoader", cpu_pairs(ours, plain), count, ">= 10x"
        ),
        Row(
            "pack + augment + normalise",
            "Dataset + DataLoader",
            cpu_pairs(ours_normalised, plain),
            count,
            "(shown)",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.images, arguments.repeats, Path(folder))
    print(report(f"Pixels: CPU-seconds an image, {arguments.images:,} TIFFs of {SIDE} px", rows))


if __name__ == "__main__":
    main()
