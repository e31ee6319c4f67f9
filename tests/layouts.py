"""Tiny data sets in the true layout of each source, generated in milliseconds.

Images are smooth random textures whose tint depends on the class, so that a few training steps on
them have something to find. Every builder is a pure function of its arguments.
"""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HAM10000_CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
PCAM_CLASSES = ("normal", "tumour")
FOLDER_CLASSES = ("Benign", "Malignant")
SPIDER_CLASSES = ("Epidermis", "Invasive melanoma", "Nevus")
SPIDER_COLUMNS = {"image_column": "patch", "class_column": "class", "group_column": "slide"}


def picture(seed: int, target: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A smooth RGB texture of (width, height) `size`, tinted by the class index `target`."""
    rng = np.random.default_rng([seed, target])
    coarse = rng.integers(0, 110, (8, 8, 3)) + 60
    coarse[..., target % 3] += 60 + 20 * (target // 3 % 2)
    blocks = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    return blocks.resize(size, Image.Resampling.BICUBIC)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def build_ham10000(root: Path, n: int = 56, size: tuple[int, int] = (60, 45)) -> Path:
    """HAM10000 as Kaggle ships it: every class in turn; each third lesion has two images."""
    header = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    rows: list[tuple[object, ...]] = []
    for part in (1, 2):
        (root / f"HAM10000_images_part_{part}").mkdir(parents=True, exist_ok=True)
    for i in range(n):
        # In eights within a class: lesions of 1, 1, 2, 1, 1, 2 images.
        target, j = i % 7, i // 7
        lesion = target * 1_000 + j // 8 * 6 + (0, 1, 2, 2, 3, 4, 5, 5)[j % 8]
        name = f"ISIC_{24306 + i:07d}"
        part = 1 if i < n // 2 else 2
        picture(i, target, size).save(
            root / f"HAM10000_images_part_{part}" / f"{name}.jpg", quality=90
        )
        age = "" if i % 11 == 0 else f"{30 + 5 * (i % 9)}.0"
        rows.append(
            (f"HAM_{lesion:07d}", name, HAM10000_CLASSES[target], "histo", age, "male", "back")
        )
    write_csv(root / "HAM10000_metadata.csv", header, rows)
    return root


def pcam_id(i: int) -> str:
    """40 hexadecimal digits, as Kaggle names its patches."""
    return hashlib.sha1(f"patch {i}".encode()).hexdigest()


def build_pcam(
    root: Path, n: int = 48, unlabelled: int = 6, *, slides: int = 8, size: int = 96
) -> Path:
    """PCam as the Kaggle competition ships it, and its slide map unless `slides` is 0."""
    for folder in ("train", "test"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    ids = [pcam_id(i) for i in range(n + unlabelled)]
    for i, name in enumerate(ids):
        folder = "train" if i < n else "test"
        picture(i, i % 2, (size, size)).save(root / folder / f"{name}.tif")
    write_csv(root / "train_labels.csv", ("id", "label"), [(ids[i], i % 2) for i in range(n)])
    write_csv(root / "sample_submission.csv", ("id", "label"), [(name, 0) for name in ids[n:]])
    if slides:
        # i // 2: both classes occur on every slide.
        mapped = [(ids[i], f"camelyon16_train_tumor_{i // 2 % slides:03d}") for i in range(n)]
        write_csv(root / "patch_id_wsi_full.csv", ("id", "wsi"), mapped)
    return root


def build_pcam_hdf5(
    root: Path, counts: tuple[int, int, int] = (24, 12, 12), *, meta: bool = True
) -> Path:
    """PCam's original release: x and y of train, valid and test; four slides a split."""
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    for k, (split, n) in enumerate(zip(("train", "valid", "test"), counts, strict=True)):
        stem = f"camelyonpatch_level_2_split_{split}"
        labels = np.arange(n, dtype=np.uint8) % 2
        pixels = np.stack([np.asarray(picture(1_000 * k + i, i % 2)) for i in range(n)])
        with h5py.File(root / f"{stem}_x.h5", "w") as file:
            file.create_dataset("x", data=pixels, chunks=(1, 96, 96, 3), compression="gzip")
        with h5py.File(root / f"{stem}_y.h5", "w") as file:
            file.create_dataset("y", data=labels.reshape(n, 1, 1, 1))
        if meta:
            header = ("", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
            rows = [
                (i, 96 * i, 7, bool(i % 2), bool(i % 2), f"camelyon16_{split}_{i // 2 % 4:03d}")
                for i in range(n)
            ]
            write_csv(root / f"{stem}_meta.csv", header, rows)
    return root


def build_folders(
    root: Path,
    n: int = 40,
    classes: Sequence[str] = FOLDER_CLASSES,
    *,
    splits: Sequence[str] = (),
    size: tuple[int, int] = (64, 64),
) -> Path:
    """A folder a class, `n` images in all, below each of `splits` if given.

    The same file names occur in every class, as they do in the Kaggle set.
    """
    above = list(splits) or [""]
    for i in range(n):
        target, j = i % len(classes), i // len(classes)
        folder = root / above[j % len(above)] / classes[target]
        folder.mkdir(parents=True, exist_ok=True)
        picture(i, target, size).save(folder / f"{j}.jpg", quality=90)
    return root


def build_spider(root: Path, n: int = 36, size: int = 112) -> Path:
    """Patches below slide folders and the table `metadata.csv` (patch, class, slide).

    The true side is 1120 px; the default is smaller to be quick.
    """
    rows = []
    for i in range(n):
        target = i % len(SPIDER_CLASSES)
        slide = f"slide_{i // len(SPIDER_CLASSES) % 6:02d}"
        (root / "images" / slide).mkdir(parents=True, exist_ok=True)
        name = f"images/{slide}/patch_{i:04d}.jpg"
        picture(i, target, (size, size)).save(root / name, quality=90)
        rows.append((name, SPIDER_CLASSES[target], slide))
    write_csv(root / "metadata.csv", ("patch", "class", "slide"), rows)
    return root
