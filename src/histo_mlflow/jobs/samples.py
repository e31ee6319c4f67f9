"""Which images stand for a data set, and the two grids that show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from histo_mlflow.evaluation.grids import augmented_grid, sample_grid
from histo_mlflow.evaluation.style import save
from histo_mlflow.randomness import permutation
from histo_mlflow.vision.augment import Policy, augment

Rows = npt.NDArray[np.int64]

AUGMENTED, VARIANTS = 5, 7


def spread(labels: Sequence[str], seed: int, n: int) -> Rows:
    """Up to n random images, the classes in turn; sorted by class.

    Args:
        labels: class of each image.
        seed: draws them.
        n: how many at most.
    """
    order = permutation(seed, 0, len(labels))
    names = np.asarray(labels, dtype=object)[order]
    turn = pd.Series(names).groupby(names).cumcount().to_numpy()
    chosen = np.lexsort((names, turn))[:n]
    chosen = chosen[np.argsort(names[chosen], kind="stable")]
    return order[chosen]


def sampled(labels: Sequence[str], seed: int, n: int, *, least: int) -> Rows:
    """Up to n random images in about the data's own shares, but `least` of every class.

    Where `least` of each would be more than n, the classes come in turn. Ascending.
    """
    if n >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    order = permutation(seed, 0, len(labels))
    names = np.asarray(labels, dtype=object)[order]
    turn = pd.Series(names).groupby(names).cumcount().to_numpy()
    late = np.where(turn < least, turn, least)  # beyond the least of each, the random order
    return np.sort(order[np.argsort(late, kind="stable")[:n]])


def draw_samples(
    path: Path, pixels: npt.NDArray[np.uint8], labels: Sequence[str], note: str, *, columns: int
) -> None:
    """Draw images with their labels.

    Args:
        path: of the PNG.
        pixels: uint8 (n, px, px, 3).
        labels: class of each.
        note: said below the heading.
        columns: images a row.
    """
    drawn = sample_grid(pixels, labels, heading="Samples", facts=note, columns=columns)
    save(drawn, path)


def draw_augmented(
    path: Path,
    pixels: npt.NDArray[np.uint8],
    labels: Sequence[str],
    policy: Policy,
    seed: int,
    note: str,
) -> None:
    """Draw some of the images, and what the policy makes of each in so many epochs.

    Args:
        path: of the PNG.
        pixels: uint8 (n, px, px, 3), of which five are drawn.
        labels: class of each.
        policy: what training does to a sample.
        seed: of the training.
        note: said below the heading.
    """
    every = max(1, len(pixels) // AUGMENTED)
    chosen, titles = np.array(pixels[::every][:AUGMENTED]), list(labels[::every][:AUGMENTED])
    images = torch.from_numpy(chosen).permute(0, 3, 1, 2)
    variants = [
        augment(images, policy, seed, epoch, np.arange(len(chosen), dtype=np.int64))
        for epoch in range(VARIANTS)
    ]
    stacked = torch.stack(variants, dim=1).permute(0, 1, 3, 4, 2).contiguous().numpy()
    facts = f"{note}, {VARIANTS} draws of the policy"
    save(augmented_grid(chosen, stacked, titles=titles, heading="Augmentation", facts=facts), path)
