"""What the doctor says of labels, splits and pixels of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageOps

from histo_mlflow.data.findings import Finding, counted, failed, passed, warned
from histo_mlflow.data.manifest import Manifest
from histo_mlflow.data.pack import read_row
from histo_mlflow.data.splits import SPLITS, Splits
from histo_mlflow.jobs.prepare import Prepared
from histo_mlflow.randomness import derive, permutation
from histo_mlflow.training.doctor import check_colours
from histo_mlflow.vision.decode import DecodeRule

COMPARED_IMAGES = 12
LOOKED_AT = 200
"""Files that are looked at, at most, to find so many that are plain RGB."""
CHANCE = 1e-4
"""A split whose order by file a random draw would give less often than this was not drawn."""

Pixels = npt.NDArray[np.uint8]


def label_source(manifest: Manifest) -> Finding:
    """Stand-in and generated labels are told at every run."""
    if manifest.label_source in ("placeholder", "synthetic"):
        return warned(
            "label-source",
            f"the labels are {manifest.label_source}: the run is tagged so, and its model can "
            "never be promoted",
        )
    return passed("label-source", manifest.label_source)


def groups(manifest: Manifest, splits: Splits) -> Finding:
    """No declared group lies on two sides of a split that promises whole groups."""
    name, kind = "split-groups", manifest.group_kind
    sides = pd.Series(splits.table["split"].to_numpy(), index=manifest.table.index)
    held = sides.groupby(manifest.table["group"]).nunique()
    torn = held.index[held > 1].tolist()
    if splits.leaking:
        return warned(
            name,
            f"the split is drawn image by image: {len(torn):,} of {len(held):,} {kind} groups lie "
            "on several sides, and scores will flatter",
            torn,
        )
    if torn:
        return failed(
            name,
            f"the split is said to keep groups whole, but {len(torn):,} of {len(held):,} {kind} "
            "groups lie on several sides: rows were split",
            torn,
        )
    if kind == "image" or len(held) == len(manifest.table):
        return warned(
            name,
            "every image is a group of its own: that no group is known does not mean that none is "
            "torn apart",
        )
    return passed(name, f"{len(held):,} {kind} groups, each on one side")


def datasets(prepared: Prepared) -> Finding:
    """What training is given holds the images of its split, each with its label, and no others.

    Looked at by id and class name, through the pack; the test images are looked at too.
    """
    name, table = "datasets", prepared.manifest.table
    classes, packed = list(prepared.manifest.classes), np.asarray(prepared.pack.ids, dtype=object)
    label_of = dict(zip(table["id"], table["label"], strict=True))
    held = {split: prepared.dataset(split) for split in SPLITS}
    ids = {split: packed[data.rows].tolist() for split, data in held.items()}
    wrong = []
    for split, data in held.items():
        for other in SPLITS[SPLITS.index(split) + 1 :]:
            if shared := len(set(ids[split]) & set(ids[other])):
                wrong.append(f"{split} and {other} share {counted(shared, 'image')}")
        asked = prepared.splits.table["id"][prepared.splits.table["split"] == split].tolist()
        if ids[split] != asked:
            wrong.append(f"{split} holds other images than the split says, or in another order")
        labels = [classes[label] if 0 <= label < len(classes) else "" for label in data.labels]
        told = [label_of[one] for one in ids[split]]
        if differ := sum(a != b for a, b in zip(labels, told, strict=True)):
            wrong.append(
                f"{differ:,} of {counted(len(told), 'label')} of {split} are not the manifest's"
            )
    if wrong:
        return failed(name, f"training is given other data than was split: {'; '.join(wrong)}")
    sizes = ", ".join(f"{split} {len(ids[split]):,}" for split in SPLITS)
    return passed(name, f"the split's own images and labels, each on one side: {sizes}")


def file_order(manifest: Manifest, splits: Splits) -> Finding:
    """A split that was to be drawn does not follow the order of the files.

    Judged class by class, in the order of the table and of the paths: three blocks in a row, when
    a random draw of whole groups would hardly ever give them. With few groups it would.
    """
    name = "split-order"
    if splits.kind == "given":
        return passed(name, "the data set's own split")
    frame = splits.table.assign(
        path=manifest.table["path"].to_numpy(),
        row=manifest.table["row"].fillna(-1).astype("int64").to_numpy(),
    )
    for how, ordered in (
        ("table", frame),
        ("file names", frame.sort_values(["path", "row"], kind="stable")),
    ):
        chances = [_chance_of_blocks(part) for _, part in ordered.groupby("label")]
        if all(c is not None for c in chances) and sum(c or 0.0 for c in chances) < math.log(
            CHANCE
        ):
            return failed(
                name,
                f"train, val and test are blocks in the order of the {how}: the split was cut, not "
                "drawn, and neighbours in the list (a slide, a clinic, a year) decide the score",
            )
    return passed(name, "train, val and test are mixed over the files")


def _chance_of_blocks(table: pd.DataFrame) -> float | None:
    """Log of the chance that shuffled groups come split by split; None where they do not."""
    first = table.drop_duplicates("group")["split"].to_numpy()
    counts = np.unique(first, return_counts=True)[1].tolist()
    if int((first[1:] != first[:-1]).sum()) != len(counts) - 1:
        return None
    arrangements = math.lgamma(len(first) + 1) - sum(math.lgamma(n + 1) for n in counts)
    return min(0.0, math.lgamma(len(counts) + 1) - arrangements)


def colours(prepared: Prepared, rule: DecodeRule, seed: int) -> Finding:
    """A handful of packed rows against a plain decode of their files."""
    packed = prepared.pack.pixels()
    ours, theirs = [], []
    for row, pixels in _decoded(prepared.manifest, seed):
        ours.append(np.asarray(packed[row]))
        theirs.append(_section(pixels, rule))
        if len(ours) == COMPARED_IMAGES:
            break
    return check_colours(ours, theirs)


def _decoded(manifest: Manifest, seed: int) -> Iterator[tuple[int, Pixels]]:
    """(row, uint8 RGB) of images in a seeded order, by Pillow's own means.

    Modes whose colours hang on a rule of ours (transparency, 16 bits) are passed over.
    """
    table = manifest.table
    with ExitStack() as stack:
        files: dict[Path, Any] = {}
        for row in permutation(derive(seed, "colours"), 0, len(table))[:LOOKED_AT].tolist():
            path, inner = manifest.root / str(table["path"].iloc[row]), table["row"].iloc[row]
            if not pd.isna(inner):
                yield row, read_row(path, int(inner), files, stack)
                continue
            with Image.open(path) as image:
                if image.mode in ("RGB", "L", "1"):
                    yield row, np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _section(pixels: Pixels, rule: DecodeRule) -> Pixels:
    """The part of an image that the decode rule shows, in its own resolution."""
    if rule.fit == "squash":
        return pixels
    height, width = pixels.shape[:2]
    side = min(height, width, rule.crop_px or max(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
